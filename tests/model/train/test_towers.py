import numpy as np
import torch

from meshfold.model.inputs import HISTORY
from meshfold.model.program import export_program, load_program
from meshfold.model.train.features import ItemFeatures
from meshfold.model.train.towers import Towers, UserTower, unit, with_means

FEATURES = ItemFeatures(3, np.array([[1, 2], [2, 0]]), np.array([[0.5, 0.5], [1.0, 0.0]], np.float32))


def _inputs(vectors: torch.Tensor, known: list[bool]) -> dict[str, torch.Tensor]:
    padded = torch.zeros(1, HISTORY, vectors.shape[1])
    padded[0, : len(vectors)] = vectors
    mask = torch.zeros(1, HISTORY, dtype=torch.bool)
    mask[0, : len(known)] = torch.tensor(known)
    history = torch.zeros(1, HISTORY, dtype=torch.int64)
    return {"history": history, "history_vectors": padded, "in_history": mask}


def _trained() -> UserTower:
    tower = UserTower(2, 4, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in tower.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator))
    return tower


def test_a_new_tower_is_the_mean_weighted_by_age() -> None:
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    tower = UserTower(2, 4, torch.Generator().manual_seed(0))
    given = tower(_inputs(vectors, [True] * 3))
    weights = torch.tensor([3.0, 2.0, 1.0]) ** -0.5
    expected = 5.0 * unit((weights[:, None] * vectors).sum(0))
    torch.testing.assert_close(given, expected.expand(1, 2, 4))


def test_what_the_catalog_lacks_changes_nothing() -> None:
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    gap = torch.stack([vectors[0], torch.full((4,), 7.0), vectors[1], vectors[2]])
    tower = _trained()
    torch.testing.assert_close(
        tower(_inputs(gap, [True, False, True, True])), tower(_inputs(vectors, [True] * 3))
    )


def test_nothing_known_gives_zeros() -> None:
    assert not _trained()(_inputs(torch.ones(2, 4), [False, False])).any()


def test_the_program_is_the_tower() -> None:
    tower = _trained().eval()
    inputs = _inputs(torch.randn(5, 4, generator=torch.Generator().manual_seed(3)), [True] * 5)
    program = load_program(export_program(tower, (inputs,)), "user_tower.pt2")
    torch.testing.assert_close(program(inputs), tower(inputs))


def test_item_vectors_are_the_rows_plus_the_means_of_fields() -> None:
    vectors = np.arange(4, dtype=np.float32).reshape(2, 2)
    towers = Towers.start(vectors, FEATURES, 1, 0)
    np.testing.assert_array_equal(towers.item_vectors().numpy(), vectors)
    with torch.no_grad():
        towers.item.fields.copy_(torch.tensor([[9.0, 9.0], [2.0, 0.0], [0.0, 4.0]]))
    np.testing.assert_array_equal(towers.item_vectors(at_once=1).numpy(), vectors + [[1, 2], [0, 4]])


def test_untaught_tasks_are_the_mean_of_the_others() -> None:
    inputs = _inputs(torch.randn(5, 4, generator=torch.Generator().manual_seed(3)), [True] * 5)
    tower = _trained().eval()
    both = tower(inputs)
    tower.untaught = (0,)
    assert torch.equal(tower(inputs), both[:, [1, 1]])
    program = load_program(export_program(tower, (inputs,)), "user_tower.pt2")
    torch.testing.assert_close(program(inputs), both[:, [1, 1]])
    assert not tower(_inputs(torch.ones(2, 4), [False, False])).any()
    three = torch.tensor([[[1.0], [5.0], [3.0]]])
    assert with_means(three, (1,)).flatten().tolist() == [1.0, 2.0, 3.0]
    assert with_means(three, ()) is three
    assert with_means(three, (0, 1, 2)) is three


def test_a_task_that_others_are_ahead_of_begins_as_their_mean() -> None:
    tower, inputs = _trained(), _inputs(torch.ones(2, 4), [True, True])
    tower.teach({0})
    assert list(tower.untaught) == [1]
    before = tower(inputs)
    assert torch.equal(before[:, 1], before[:, 0])
    tower.teach({0, 1})
    assert not tower.untaught
    torch.testing.assert_close(tower(inputs), before)
    tower.teach(set())
    assert not tower.untaught, "what was learned stays"
