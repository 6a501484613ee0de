from __future__ import annotations

from pathlib import Path

import pytest

from meshfold.kernels.filter.eligible import eligible_reference
from meshfold.kernels.native import library
from meshfold.kernels.search.tuning import Tuning, in_use
from meshfold.model.errors import InvalidConfig
from meshfold.model.snapshot import Snapshot
from meshfold.model.store import Store
from meshfold.tools import tuning
from meshfold.tools.tuning import BATCHES, PASS_RATES, QUERIES, Timing, Tuned, tune

NEEDS_LIBRARY = pytest.mark.skipif(library.levels() == ["reference"], reason="the kernels are not built here")


@pytest.fixture(scope="module")
def snapshot(store: Path) -> Snapshot:
    return Snapshot.open(Store(store).published("shop")[0])


@NEEDS_LIBRARY
def test_every_kind_of_query_filter_and_batch_is_measured(snapshot: Snapshot) -> None:
    before = in_use()
    tuned = tune(snapshot, 1)
    assert in_use() == before
    assert all(t.before_ms > 0 and t.after_ms > 0 for t in tuned.timings)
    told = {(rate, by) for rate in PASS_RATES[1:] for by in ("plane", "column")} | {(1.0, "")}
    assert {(t.kind, t.batch, t.pass_rate, t.filter) for t in tuned.timings} == {
        (kind, batch, *filter_) for kind in QUERIES for batch in BATCHES for filter_ in told
    }
    assert len(tuned.timings) == len(QUERIES) * len(BATCHES) * len(told)


@pytest.mark.parametrize("items", [1, 400, 1000, 5000])
def test_filters_pass_what_they_are_named_for(items: int) -> None:
    tensors, filters = tuning._filters(items)
    for rate, _, programs in filters:
        found = eligible_reference(tensors, programs, programs.excluded.new_ones(1).bool(), items)
        passing = sum(place < rate * items for place in range(items))
        assert found.counts.tolist() == [passing]


@NEEDS_LIBRARY
def test_an_answer_that_changes_is_no_setting(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_equal", lambda found, answer: False)
    with pytest.raises(RuntimeError, match="a search answered otherwise with Tuning"):
        tune(snapshot, 1)


def test_the_reference_has_nothing_to_tune(snapshot: Snapshot) -> None:
    with library.forced("reference"), pytest.raises(InvalidConfig, match="only the native kernels"):
        tune(snapshot, 1)


def test_the_gain_is_the_geometric_mean() -> None:
    times = [(2.0, 1.0), (1.0, 2.0), (3.0, 3.0), (16.0, 1.0)]
    timings = tuple(Timing("item-like", 1.0, "", 1, *ms) for ms in times)
    assert Tuned(Tuning(), timings).gain == pytest.approx(1.0)
