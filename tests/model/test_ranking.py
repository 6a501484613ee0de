import numpy as np
import torch
from torch import Tensor

from meshfold.model.ranking import SimilarityRanking

LARGEST = float(torch.finfo(torch.float32).max)


def rank(similarities: Tensor, weights: Tensor, weighted: list[bool]) -> tuple[Tensor, Tensor]:
    values, scores = SimilarityRanking()(similarities, weights, torch.tensor(weighted))
    assert torch.equal(scores, similarities)
    return values, scores


def test_without_weights_the_value_is_the_largest_similarity() -> None:
    similarities = torch.tensor([[[1.0, -5.0], [2.0, -7.0], [-3.0, -6.0]]])
    values, _ = rank(similarities, torch.tensor([[9.0, 9.0, 9.0]]), [False])
    assert values.tolist() == [[2.0, -5.0]]


def test_with_weights_it_is_their_sum_task_by_task_in_float32() -> None:
    rng = np.random.default_rng(0)
    similarities = rng.standard_normal((2, 5, 7)).astype(np.float32)
    weights = rng.standard_normal((2, 5)).astype(np.float32)
    values, _ = rank(torch.from_numpy(similarities), torch.from_numpy(weights), [True, True])
    expected = np.zeros((2, 7), np.float32)
    for task in range(5):
        expected = expected + weights[:, task, None] * similarities[:, task]
    assert values.numpy().tobytes() == expected.tobytes()


def test_each_query_has_its_own_formula() -> None:
    similarities = torch.tensor([[[1.0], [4.0]], [[1.0], [4.0]]])
    values, _ = rank(similarities, torch.tensor([[2.0, 0.5], [2.0, 0.5]]), [True, False])
    assert values.tolist() == [[4.0], [4.0]]
    values, _ = rank(similarities, torch.tensor([[-1.0, 0.0], [-1.0, 0.0]]), [True, False])
    assert values.tolist() == [[-1.0], [4.0]]


def test_sums_beyond_float32_stay_finite_and_are_no_nan() -> None:
    similarities = torch.tensor([[[LARGEST, LARGEST, LARGEST], [LARGEST, -LARGEST, 0.0]]])
    values, _ = rank(similarities, torch.tensor([[LARGEST, LARGEST]]), [True])
    assert values[0, 0] == LARGEST
    assert torch.isfinite(values).all()


def test_no_candidates_have_no_values() -> None:
    values, scores = rank(torch.empty((2, 3, 0)), torch.ones((2, 3)), [True, False])
    assert values.shape == (2, 0)
    assert scores.shape == (2, 3, 0)
