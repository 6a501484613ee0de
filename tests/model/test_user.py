import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.model.user import HistoryMean, ProgramTower

T, D = 2, 5


def of_history(vectors: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """vectors: [B, H, D], there: [B, H] -> the tower's vectors, and whose are not zero."""
    chosen = HistoryMean(T)({"history_vectors": vectors, "in_history": there})
    return chosen, (chosen != 0).flatten(1).any(1)


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


def test_the_largest_vectors_do_not_overflow() -> None:
    chosen, _ = of_history(torch.full((1, 512, D), 3.4e38), torch.ones((1, 512), dtype=torch.bool))
    assert torch.allclose(chosen, torch.full((1, T, D), D**-0.5))


class Program(nn.Module):
    """What a published tower does: any function of one user's inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(D, T * D)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        assert inputs["history"].shape[0] == 1
        mean: Tensor = inputs["history_vectors"].mean(1)
        out: Tensor = self.layer(mean / mean.sum()).view(1, T, D)
        return out


def test_a_published_tower_runs_alone_for_each_user_and_its_nan_is_zero() -> None:
    tower, program = ProgramTower(Program()), Program()
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 3, D)).astype(np.float32))
    vectors[2] = 0.0
    inputs = {"history": torch.zeros((5, 3), dtype=torch.int64), "history_vectors": vectors}
    out = tower(inputs)
    assert out.shape == (5, T, D)
    for i in (0, 1, 3, 4):
        alone = program({name: value[i : i + 1] for name, value in inputs.items()})
        assert out[i].detach().numpy().tobytes() == alone[0].detach().numpy().tobytes()
    assert not out[2].any()
