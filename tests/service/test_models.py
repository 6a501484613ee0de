"""Modules of one's own, from `meshfold build` to answers: what was published runs, and nothing else is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meshfold.compat import meshfold_v1
from meshfold.compat.client import decode_response, encode_request
from meshfold.model.batch import Results
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.text import parse_filter
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import PROGRAMS, Snapshot
from meshfold.model.types import QUERY_VECTOR, Candidates, MaxPerValue, Query
from meshfold.service.runner import Runner

ITEMS, D = 1500, 16
PACKAGE = "package_of_a_test"
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def whole(build_shop: Build) -> Path:
    """A snapshot with all three programs and formulas."""
    return build_shop(user_tower="User", over_arch="Rank")


@pytest.fixture(scope="module")
def runner(whole: Path) -> Runner:
    return Runner.open(whole, "shop")


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


FILTERS = (None, 'language in ["de", "es"]', 'year >= 1990 && !("t3" in tags)', "price < 0.2", "year == 1")


def query(seed: int) -> Query:
    """Users of every kind, with every kind of input, filter and formula in turn."""
    rng = np.random.default_rng(seed)
    features: dict[str, Any] = {}
    if seed % 2:
        features = {"country": (f"c{seed}",), "clock": floats(*rng.random(2)), "ages": ints(seed)}
    if seed % 3 == 0:
        features["search"] = ("Title 7, of those!",)
    if seed % 5 == 0:
        features[QUERY_VECTOR] = rng.standard_normal(2 * D if seed % 10 else D).astype(np.float32)
    formula = ("", "cheap", "recent", "similarity")[seed % 4]
    if formula == "recent":
        features["hour"] = floats(seed)
    text = FILTERS[seed % len(FILTERS)]
    return Query(
        "shop",
        (1, 7, 100, 1100)[seed * 7 // 4 % 4],
        history=rng.integers(0, ITEMS * 3, (seed * 11) % 150).astype(np.int64),
        features=features,
        filter=None if text is None else parse_filter(text),
        value_formula=formula,
        task_weights={"like": float(np.float32(rng.random()))} if formula == "" and seed % 8 == 0 else {},
        max_per_value=MaxPerValue("language", 20) if seed % 7 == 0 else None,
        fields=("title", "year"),
    )


QUERIES = [query(seed) for seed in range(20)]


def ask(runner: Runner, *queries: Query) -> list[Candidates]:
    return runner.run([runner.prepare(q) for q in queries])


def messages(queries: Sequence[Query], runner: Runner) -> list[bytes]:
    """The answers to one batch, as callers get them."""
    answers = ask(runner, *queries)
    return [meshfold_v1.encode(q, answer) for q, answer in zip(queries, answers, strict=True)]


SERVE = f"""
import sys
import pickle
import torch
torch.set_num_threads(1)
def refuse(*_, **__):
    raise AssertionError("something was unpickled")
pickle.loads = pickle.load = torch.load = torch._C._pickle_load_obj = refuse
from pathlib import Path
from meshfold.compat import meshfold_v1
from meshfold.service.runner import Runner
runner = Runner.open(Path(sys.argv[1]), "shop")
for line in sys.stdin:
    query = meshfold_v1.decode(bytes.fromhex(line))
    (answer,) = runner.run([runner.prepare(query)])
    print(meshfold_v1.encode(query, answer).hex())
assert not [name for name in sys.modules if name.startswith({PACKAGE!r})]
try:
    import {PACKAGE}
except ModuleNotFoundError:
    print("gone")
"""


def test_a_process_without_the_code_gives_the_bytes_of_the_one_with_it(
    whole: Path, runner: Runner, tmp_path: Path
) -> None:
    alone = [messages([q], runner)[0] for q in QUERIES]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVE, str(whole)],
        input="\n".join(encode_request(q).hex() for q in QUERIES),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *answers, gone = run.stdout.splitlines()
    assert gone == "gone"
    assert [bytes.fromhex(answer) for answer in answers] == alone


def test_the_version_is_of_programs_and_tensors_alike(build_shop: Build, whole: Path) -> None:
    version = Snapshot.open(whole).version
    assert set(PROGRAMS) < set(Snapshot.open(whole).content.files)
    again = build_shop(user_tower="User", over_arch="Rank", store=whole.parent.parent)
    assert again == whole, "publishing the same once more changes nothing"
    others = [
        build_shop(user_tower="nudged_user", over_arch="Rank"),
        build_shop(user_tower="User", over_arch="nudged_rank"),
        build_shop(user_tower="User", over_arch="Rank", like=0.25),
        build_shop(user_tower="User"),
    ]
    assert len({version, *(Snapshot.open(other).version for other in others)}) == 5


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_one_answer_alone_in_any_company_and_with_any_threads(runner: Runner) -> None:
    alone = [messages([q], runner)[0] for q in QUERIES]
    assert sum(len(decode_response(message).item_ids) > 0 for message in alone) > 12
    rng = np.random.default_rng(0)
    # Two threads wait long for each other where others work beside: few queries tell as well.
    for threads, size, count in ((1, 3, 20), (1, 20, 20), (2, 2, 4)):
        torch.set_num_threads(threads)
        order = rng.permutation(20)[:count].tolist()
        for some in (order[i : i + size] for i in range(0, count, size)):
            assert messages([QUERIES[i] for i in some], runner) == [alone[i] for i in some]


def test_the_whole_model_is_exported_and_gives_the_same(whole: Path, runner: Runner) -> None:
    model = runner.model
    batch = runner.collate([runner.prepare(q) for q in QUERIES[:4]])
    with torch.no_grad():
        wanted: Results = model(batch)
        exported = torch.export.export(model, (batch,), strict=False).module()
        got: Results = exported(batch)
    assert torch.equal(got.positions, wanted.positions)
    assert got.values.numpy().tobytes() == wanted.values.numpy().tobytes()
    assert torch.equal(got.task_scores, wanted.task_scores)
    assert (wanted.positions >= 0).any(1).sum() >= 3


def test_scores_are_those_of_the_modules(whole: Path, runner: Runner) -> None:
    """The programs of the snapshot, called as docs/models.md says."""
    snapshot = Snapshot.open(whole)
    over_arch = snapshot.program("over_arch.pt2")
    assert over_arch is not None
    vectors = np.random.default_rng(0).standard_normal((2, D)).astype(np.float32)
    (answer,) = ask(runner, Query("shop", 30, features={QUERY_VECTOR: vectors.ravel()}))
    rows = np.searchsorted(snapshot.items["item_ids"].numpy(), answer.item_ids)
    positions = snapshot.items["positions"][rows]
    items = torch.zeros(1, 2048, D)
    assert isinstance(runner.model, RetrievalModel)
    items[0, :30] = runner.model.index.vectors(positions)
    similarities = torch.zeros(1, 2, 2048)
    near = torch.from_numpy(vectors) @ items[0, :30].T
    similarities[0, :, :30] = near
    with torch.inference_mode():
        scores = over_arch(torch.from_numpy(vectors)[None], items, similarities)[0, :, :30].T
    # The index's similarities are exact for query vectors of Int8 code and residual.
    assert np.allclose(answer.task_scores, scores, rtol=0, atol=2e-3 * float(near.abs().max()))
    assert not np.allclose(answer.task_scores, near.T, rtol=0, atol=0.05)
    mixed = 0.5 * answer.task_scores[:, 0].astype(np.float64) + answer.task_scores[:, 1]
    assert answer.values.tobytes() == mixed.astype(np.float32).tobytes()
    assert (np.diff(answer.values) <= 0).all()


def test_of_whom_nothing_is_known_gets_what_is_popular(runner: Runner) -> None:
    nothing = [
        Query("shop", 10),
        Query("shop", 10, history=ints(1, 2, 4)),
        Query("shop", 10, features={"country": (), "device": ("phone",)}),
        Query("shop", 10, user_id=7, features={"hour": floats(3)}, value_formula="similarity"),
    ]
    for q in nothing:
        (answer,) = ask(runner, q)
        assert list(answer.item_ids) == [i * 3 + 5 for i in range(10)]


@pytest.mark.parametrize(
    "features",
    [{"country": ("de",)}, {"search": ("a title",)}, {"ages": ints(3)}, {"clock": floats(0.5)}],
)
def test_a_declared_input_alone_makes_a_user_known(runner: Runner, features: dict[str, Any]) -> None:
    (answer,) = ask(runner, Query("shop", 10, features=features, explain=True))
    assert answer.explain["user"] == "known"
    assert list(answer.item_ids) != [i * 3 + 5 for i in range(10)]
    (other,) = ask(runner, Query("shop", 10, features={**features, "ages": ints(77)}))
    assert answer.task_scores.tobytes() != other.task_scores.tobytes()


def test_an_input_of_another_kind_is_refused(runner: Runner) -> None:
    with pytest.raises(InvalidQuery, match=r"is declared as strings; send strings") as caught:
        runner.prepare(Query("shop", 10, features={"country": ints(3)}))
    assert caught.value.path == 'features["country"]'
