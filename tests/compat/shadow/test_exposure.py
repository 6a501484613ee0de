from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import ttest_rel

from meshfold.compat.shadow import exposure
from meshfold.compat.shadow.comparison import ItemText
from meshfold.compat.shadow.exposure import ExposureCounts
from meshfold.compat.shadow.pairs import Pair


class Remainders:
    """An item's value is its remainder by ten, told twice."""

    fields: Sequence[str] = ("digit",)

    def violations(self, pair: Pair, item_ids: Sequence[int | str]) -> int | None:
        return None

    def known(self, item_ids: Sequence[int | str]) -> int:
        return len(item_ids)

    def values(self, item_id: int | str, field: str) -> tuple[str, ...]:
        return (str(int(item_id) % 10), str(int(item_id) % 10))

    def text(self, item_id: int | str) -> ItemText:
        return ItemText()


def test_shares_are_means_over_users() -> None:
    counts = ExposureCounts(Remainders())
    generator = np.random.default_rng(0)
    shares: list[tuple[float, float]] = []
    for user in range(40):
        mesh, model = generator.integers(30, size=20).tolist(), generator.integers(40, size=30).tolist()
        # Twice, so that a user's results are summed.
        counts.add(user, 0.0, mesh[:5], model[:20])
        counts.add(user, 0.0, mesh[5:], model[20:])
        shares.append((sum(i % 10 == 3 for i in mesh) / 20, sum(i % 10 == 3 for i in model) / 30))
    told = counts.exposures(20, 100)
    assert len({(one.value, one.depth) for one in told}) == len(told) == 20
    [three] = [one for one in told if one.value == "3" and one.depth == 0]
    mesh_shares, model_shares = map(np.array, zip(*shares, strict=True))
    assert three.mesh_share == pytest.approx(mesh_shares.mean())
    assert three.model_share == pytest.approx(model_shares.mean())
    assert three.ratio.value == pytest.approx(model_shares.mean() / mesh_shares.mean())
    # Fieller's bounds are the ratios that a paired t test does not refuse.
    for bound in (three.ratio.low, three.ratio.high):
        assert ttest_rel(model_shares, bound * mesh_shares).pvalue == pytest.approx(0.05, abs=1e-6)
    [ten] = [one for one in told if one.value == "3" and one.depth == 10]
    assert ten != three


def test_a_value_that_one_side_never_shows() -> None:
    counts = ExposureCounts(Remainders())
    for user in range(30):
        counts.add(user, 0.0, [1, 2, 3 + user % 2], [1, 2, 5])
    told = {(one.value, one.depth): one for one in counts.exposures(10, 100)}
    assert told["3", 0].ratio.value == 0
    assert told["3", 0].ratio.high < 1
    assert told["5", 0].ratio.value == math.inf
    assert math.isnan(told["5", 0].ratio.high)
    assert told["5", 0].q < 1e-9
    assert told["1", 0].ratio.value == told["1", 0].q == 1


def test_users_are_sampled_where_rows_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure, "_BUFFERED_ROWS", 50)
    monkeypatch.setattr(exposure, "_MAX_ROWS", 400)
    counts = ExposureCounts(Remainders())
    generator = np.random.default_rng(0)
    for _ in range(2):
        for user in range(100):
            items = generator.permutation(10).tolist()
            counts.add(user, user / 100, items, items[:5])
    told = counts.exposures(10, 100)
    assert counts.user_share == 0.25
    assert [one.mesh_share for one in told if one.depth == 0] == pytest.approx([0.1] * 10)


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure, "_MAX_VALUES", 4)
    counts = ExposureCounts(Remainders())
    for user in range(30):
        counts.add(user, 0.0, [*range(10)], [*range(10)])
    assert {one.value for one in counts.exposures(10, 100)} == {"0", "1", "2", "3"}
    assert counts.values_left_out == 6
