from __future__ import annotations

import gc
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshfold.service import collector
from meshfold.service.collector import PAUSE_BUCKETS_S, Pauses
from meshfold.service.metrics import Metrics

Publish = Callable[..., Path]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collection runs by itself: its own pause would take readings of a test's clock."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_pauses_are_counted_by_generation_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.003, 2.0, 2.001, 5.0, 7.0])
    monkeypatch.setattr(collector, "perf_counter", lambda: next(clock))
    pauses = Pauses()
    for generation in (0, 0, 2):
        pauses("start", {"generation": generation})
        pauses("stop", {"generation": generation})
    found = {generation: (counts, total_s) for generation, counts, total_s in pauses}
    young, full = found[0], found[2]
    assert young[0][PAUSE_BUCKETS_S.index(0.005)] == 1
    assert sum(young[0]) == 2
    assert young[1] == pytest.approx(0.004)
    assert (full[0][-1], sum(full[0])) == (1, 1)
    assert sum(found[1][0]) == 0


def test_pauses_are_shown_as_a_histogram() -> None:
    if collector.pauses not in gc.callbacks:
        collector.settle()
    gc.collect()
    metrics = Metrics()
    address = metrics.listen("127.0.0.1:0")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        text = response.read().decode()
    metrics.stop()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["meshfold_gc_pause_seconds"].samples
    full = [sample for sample in samples if sample.labels["generation"] == "2"]
    buckets = [sample.value for sample in full if sample.name.endswith("_bucket")]
    (count,) = [sample.value for sample in full if sample.name.endswith("_count")]
    assert buckets == sorted(buckets)
    assert len(buckets) == len(PAUSE_BUCKETS_S) + 1
    assert buckets[-1] == count >= 1


# A process of its own, as a server is: what is frozen there is not the tests' own.
SERVER = """
import gc, json, sys, weakref
from pathlib import Path
from typing import Any
from meshfold.service import collector
from meshfold.service.runner import Runner
from meshfold.model.types import Query

folders = [Path(folder) for folder in sys.argv[1:]]
maps = lambda: Path("/proc/self/maps").read_text()
visited = lambda: len(gc.get_objects())
mapped = lambda folder: str(folder) in maps() if sys.platform == "linux" else False
before = visited()
collector.start()
collector.start()
first = Runner.open(folders[0], "shop")
first.run([first.prepare(Query("shop", 3))])
loaded = visited()
collector.settle()
settled = visited()
freed = [weakref.ref(tensor) for tensor in (*first.model.buffers(), *first.model.parameters())]
gc.disable()
second = Runner.open(folders[1], "shop")
second.run([second.prepare(Query("shop", 3))])
first_was_mapped = mapped(folders[0])
del first
collector.settle()
swapped = visited()
for _ in range(4):
    again = Runner.open(folders[0], "shop")
    del again
    collector.settle()
print(json.dumps({
    "before": before, "loaded": loaded, "settled": settled, "swapped": swapped, "at_last": visited(),
    "was_mapped": first_was_mapped, "is_mapped": mapped(folders[0]),
    "tensors": len(freed), "left": sum(tensor() is not None for tensor in freed),
    "callbacks": sum(callback is collector.pauses for callback in gc.callbacks),
    "generations": [sum(counts) for _, counts, _ in collector.pauses],
}))
"""


def in_a_process(*folders: Path) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", SERVER, *map(str, folders)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


@pytest.mark.parametrize("programs", [False, True])
def test_full_collections_visit_no_imports_and_replaced_snapshots_go(
    tmp_path: Path, publish_items: Publish, build_shop: Publish, programs: bool
) -> None:
    """Of a snapshot with programs, which was frozen with the imports that it brought, tensors go all the same."""
    first = build_shop(user_tower="User", over_arch="Rank") if programs else publish_items(tmp_path, seed=1)
    told = in_a_process(first, publish_items(tmp_path))
    assert told["before"] > 100_000
    assert told["loaded"] > (100_000 if programs else 0)
    assert told["settled"] < 2_000
    assert told["swapped"] < 3_000
    assert told["at_last"] < told["swapped"] + 100
    assert told["left"] == 0 < told["tensors"]
    assert told["was_mapped"] == (sys.platform == "linux")
    assert not told["is_mapped"]
    assert told["callbacks"] == 1
    # Without programs, one collection each settle() but the first.
    assert told["generations"][2] == 5
