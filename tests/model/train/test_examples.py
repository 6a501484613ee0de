import numpy as np

from meshfold.model.data.interactions import Interactions
from meshfold.model.train.examples import Timelines

INTERACTIONS = Interactions(
    user_ids=np.array([1, 1, 1, 1, 2, 2]),
    item_ids=np.array([30, 10, 99, 20, 20, 10]),
    times=np.array([1, 2, 3, 4, 1, 2]),
    tasks={"watch": np.ones(6, bool), "like": np.array([True, False, True, True, False, True])},
)
TIMELINES = Timelines.of(INTERACTIONS, np.array([10, 20, 30]), ("watch", "like"))


def test_items_that_the_catalog_lacks_are_left_out() -> None:
    assert TIMELINES.places.tolist() == [2, 0, 1, 1, 0]
    assert TIMELINES.offsets.tolist() == [0, 3, 5]
    assert TIMELINES.tasks[1].tolist() == [True, False, True, False, True]


def test_an_example_is_the_newest_before_the_cut_and_what_followed() -> None:
    users, cuts = np.array([0, 1]), np.array([2, 1])
    examples = TIMELINES.examples(users, cuts, length=1, following=np.array([5, 5]), targets=2)
    assert examples.history.tolist() == [[0], [1]]
    assert examples.targets.tolist() == [[1, -1], [0, -1]]
    assert examples.labels.tolist() == [[[True, False], [True, False]]] * 2


def test_histories_are_oldest_first_and_padded() -> None:
    histories = TIMELINES.histories(np.array([0, 1]), np.array([3, 0]), 4)
    assert histories.tolist() == [[2, 0, 1, -1], [-1] * 4]


def test_until_keeps_the_users_and_cuts_what_they_did() -> None:
    part = TIMELINES.until(np.array([1, 0]))
    assert (part.places.tolist(), part.lengths.tolist()) == ([2], [1, 0])
    assert part.tasks.tolist() == [[True], [True]]
    assert TIMELINES.lengths_in(part).tolist() == [1, 0]


def test_met_is_everything_that_a_user_did() -> None:
    assert TIMELINES.met(np.array([1]), 3).tolist() == [[True, True, False]]
    assert TIMELINES.first(0, 2).tolist() == [2, 0]
