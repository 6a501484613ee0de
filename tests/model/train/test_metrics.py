import numpy as np
import pytest

from meshfold.model.train.examples import Timelines
from meshfold.model.train.metrics import HeldOut, Metrics, Quality, mean_over, quality

# Users 10 and 11: places in the order of time.
TIMELINES = Timelines(
    users=np.array([10, 11]),
    offsets=np.array([0, 4, 7]),
    places=np.array([0, 1, 2, 0, 3, 4, 5]),
    tasks=np.array([[True] * 7, [True, False, False, True, True, True, False]]),
)
ROWS, CUTS = np.array([0, 1]), np.array([2, 1])


def _held(task: int, exclude: bool) -> HeldOut:
    return HeldOut.after(TIMELINES, ROWS, CUTS, task, 6, exclude)


def test_what_followed_is_held_out_less_what_was_met() -> None:
    assert _held(0, exclude=False).keys.tolist() == [0, 2, 10, 11]
    assert _held(0, exclude=True).keys.tolist() == [2, 10, 11]
    assert _held(1, exclude=True).counts.tolist() == [0, 1]
    assert [_held(task, exclude=True).already_met for task in (0, 1)] == [1, 1]
    assert _held(0, exclude=False).already_met == 0


def test_recall_and_ndcg_by_hand() -> None:
    ranked = np.array([[5, 2, 1, -1], [0, 4, 1, 5]])
    found = quality(ranked, _held(0, exclude=True))
    assert found is not None
    second = 1 / np.log2(3)
    of_user_1 = (second + 1 / np.log2(5)) / (1 + second)
    assert found.recall[20] == 1.0
    assert found.ndcg[50] == pytest.approx((second + of_user_1) / 2)


def test_depth_cuts_and_only_users_with_held_out_items_count() -> None:
    ranked = np.concatenate([np.zeros((2, 20), np.int64), np.full((2, 1), 4)], 1)
    found = quality(ranked, _held(1, exclude=True))
    assert found is not None
    assert (found.recall[20], found.recall[50]) == (0.0, 1.0)
    assert found.ndcg[100] == pytest.approx(1 / np.log2(22))


def test_nothing_is_no_hit() -> None:
    found = quality(np.full((2, 3), -1), _held(0, exclude=True))
    assert found is not None
    assert found.recall[100] == 0.0


def test_what_nobody_did_has_no_quality() -> None:
    held = HeldOut(np.empty(0, np.int64), np.zeros(2, np.int64), 6)
    ranked = np.zeros((2, 3), np.int64)
    assert quality(ranked, held) is None
    assert mean_over([ranked], [held], "recall", 50) == 0.0
    some = _held(0, exclude=True)
    of_some = quality(ranked, some)
    assert of_some is not None
    assert mean_over([ranked, ranked], [held, some], "ndcg", 50) == of_some.ndcg[50]


def test_json_keeps_everything() -> None:
    some = Quality({20: 0.1, 50: 0.2, 100: 0.3}, {20: 0.4, 50: 0.5, 100: 0.6})
    metrics = Metrics(
        {"towers": {"watch": some, "buy": None}}, {"watch": 3, "buy": 0}, {"towers": {"steps": 4}}
    )
    assert Metrics.from_json(metrics.to_json()) == metrics
    assert metrics.to_json()["rankings"]["towers"]["watch"]["ndcg@50"] == 0.5
    assert metrics.to_json()["rankings"]["towers"]["buy"] is None
