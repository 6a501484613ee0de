import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.model.user import HistoryMean

T, D = 2, 5


def of_history(vectors: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """vectors: [B, H, D], there: [B, H] -> what the module says of users without a vector of their own."""
    b = vectors.shape[0]
    chosen, known = HistoryMean()(torch.zeros((b, T, D)), torch.zeros(b, dtype=torch.bool), vectors, there)
    return chosen, known


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 100, 512])
def test_a_history_is_the_normalised_mean_of_its_vectors(length: int) -> None:
    rng = np.random.default_rng(length)
    vectors = torch.from_numpy(rng.standard_normal((3, length, D)).astype(np.float32))
    there = torch.from_numpy(rng.random((3, length)) < 0.7)
    there[:, 0] = True
    chosen, known = of_history(vectors, there)
    assert chosen.shape == (3, T, D)
    assert known.all()
    for i in range(3):
        mean = vectors[i][there[i]].double().mean(0)
        expected = mean / mean.norm()
        for task in range(T):
            assert torch.allclose(chosen[i, task].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 3, 5, 8, 9, 31, 200])
def test_padding_and_company_change_no_byte(length: int) -> None:
    rng = np.random.default_rng(length)
    vectors = torch.from_numpy(
        (rng.standard_normal((1, length, D)) * 10.0 ** rng.integers(-9, 9, D)).astype("f")
    )
    alone, _ = of_history(vectors, torch.ones((1, length), dtype=torch.bool))
    for longest in (length + 1, 256, 512):
        padded = torch.from_numpy(rng.standard_normal((4, longest, D)).astype(np.float32))
        there = torch.ones((4, longest), dtype=torch.bool)
        padded[2, :length], there[2, length:] = vectors[0], False
        assert of_history(padded, there)[0][2].numpy().tobytes() == alone[0].numpy().tobytes()


def test_a_vector_that_came_with_the_request_goes_before_the_history() -> None:
    own = torch.arange(T * D).float().view(1, T, D)
    history = torch.ones((1, 3, D))
    chosen, known = HistoryMean()(own, torch.tensor([True]), history, torch.ones((1, 3), dtype=torch.bool))
    assert torch.equal(chosen, own)
    assert known.all()


def test_nothing_is_known_of_an_empty_a_zero_or_a_cancelling_history() -> None:
    vectors = torch.zeros((4, 2, D))
    vectors[1, 0], vectors[1, 1] = 3.0, -3.0
    vectors[2] = 1.0
    vectors[3, 1, 0] = 1e-45
    there = torch.tensor([[True, True], [True, True], [False, False], [True, True]])
    chosen, known = of_history(vectors, there)
    assert known.tolist() == [False, False, False, True]
    assert not chosen[:3].any()
    assert chosen[3, 0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_history_of_no_length_is_unknown() -> None:
    chosen, known = of_history(torch.empty((2, 0, D)), torch.empty((2, 0), dtype=torch.bool))
    assert chosen.shape == (2, T, D)
    assert not known.any()


def test_a_query_vector_of_zeros_tells_nothing() -> None:
    own = torch.zeros((1, T, D))
    history = torch.ones((1, 1, D))
    _, known = HistoryMean()(own, torch.tensor([True]), history, torch.ones((1, 1), dtype=torch.bool))
    assert not known.any()


def test_the_largest_vectors_do_not_overflow() -> None:
    chosen, _ = of_history(torch.full((1, 512, D), 3.4e38), torch.ones((1, 512), dtype=torch.bool))
    assert torch.allclose(chosen, torch.full((1, T, D), D**-0.5))
