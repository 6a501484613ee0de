import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.kernels.native import library
from meshfold.model.exports import export_over_arch
from meshfold.model.program import export_program, load_program
from meshfold.model.ranking import TILE, ProgramRanking, SimilarityRanking
from meshfold.model.schema import Schema

T, D, N = 2, 4, 5000
VECTORS = torch.from_numpy(np.random.default_rng(0).standard_normal((N, D)).astype(np.float32))


class Scores(nn.Module):
    """What an OverArch does: any function of one user and a tile of items."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2 * D, T)

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        assert users.shape == (1, T, D)
        assert items.shape == (1, TILE, D)
        assert similarities.shape == (1, T, TILE)
        crossed = torch.cat([items, items * users.mean(1, keepdim=True)], -1)
        scores: Tensor = self.layer(crossed).transpose(1, 2) + similarities
        return scores / (similarities != 7.0)


class Apart(nn.Module):
    """One that scores each item for itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(D + T, 40), nn.Linear(40, T)

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        x = torch.cat([items, similarities.transpose(1, 2)], -1)
        x = self.last(torch.relu(self.first(x))).transpose(1, 2)
        return torch.sigmoid(x * users.mean(2, keepdim=True) + similarities)


def ranking(scorer: nn.Module | None = None) -> ProgramRanking:
    example = (torch.zeros(1, T, D), torch.zeros(1, TILE, D), torch.zeros(1, T, TILE))
    return ProgramRanking(load_program(export_program(scorer or Scores(), example), "x"))


def vectors_at(positions: Tensor) -> Tensor:
    return VECTORS[positions.clamp(min=0)]


def asked(b: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(b * 10_000 + k)
    users = torch.from_numpy(rng.standard_normal((b, T, D)).astype(np.float32))
    positions = torch.from_numpy(np.stack([rng.permutation(N)[:k] for _ in range(b)]))
    similarities = torch.from_numpy(rng.standard_normal((b, T, k)).astype(np.float32))
    return users, positions, similarities


def test_without_an_over_arch_a_score_is_the_similarity() -> None:
    users, positions, similarities = asked(2, 30)
    assert SimilarityRanking()(users, positions, similarities, vectors_at) is similarities


@pytest.mark.parametrize("k", [1, TILE - 1, TILE, TILE + 1, 2 * TILE + 5])
def test_scores_are_the_programs_and_do_not_depend_on_the_company(k: int) -> None:
    users, positions, similarities = asked(3, k)
    scores = ranking()(users, positions, similarities, vectors_at).detach()
    assert scores.shape == (3, T, k)
    for b in range(3):
        alone = ranking()(users[b : b + 1], positions[b : b + 1], similarities[b : b + 1], vectors_at)
        assert scores[b].numpy().tobytes() == alone[0].detach().numpy().tobytes()
    scorer = Scores()
    items = VECTORS[positions[0]]
    crossed = torch.cat([items, items * users[0].mean(0)], -1)
    expected = scorer.layer(crossed).T + similarities[0]
    assert torch.allclose(scores[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scorer", [Scores, Apart])
def test_a_candidate_of_fewer_scores_what_it_scores_among_more(scorer: type[nn.Module]) -> None:
    users, positions, similarities = asked(1, 2 * TILE + 20)
    run = ranking(scorer())
    many = run(users, positions, similarities, vectors_at)
    for few in (1, 9, 64, 65, TILE, TILE + 1):
        assert torch.equal(
            run(users, positions[:, :few], similarities[:, :, :few], vectors_at), many[:, :, :few]
        )


@pytest.mark.parametrize("level", library.levels())
def test_candidates_that_are_scored_apart_need_no_tiles(level: str) -> None:
    users, positions, similarities = asked(1, TILE + 20)
    taken = []

    def noting(positions: Tensor) -> Tensor:
        taken.append(positions.shape[1])
        return vectors_at(positions)

    with library.forced(level):
        scores = ranking(Apart())(users, positions[:, :70], similarities[:, :, :70], noting)
        expected = Apart()(users, vectors_at(positions[:, :70]), similarities[:, :, :70])
        assert taken == [TILE if level == "reference" else 128]
        assert torch.allclose(scores, expected, rtol=0, atol=1e-5)


class Together(nn.Module):
    """A listwise one: what a candidate has beyond the mean of those that are there, and its similarity."""

    listwise = 70

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor, present: Tensor) -> Tensor:
        assert items.shape == (1, 70, D)
        known = present.unsqueeze(-1)
        mean = (items * known).sum(1, keepdim=True) / known.sum(1, keepdim=True)
        return users @ (items - mean).transpose(1, 2) + similarities


@pytest.fixture(scope="module")
def together() -> ProgramRanking:
    schema = Schema("shop", (), ("like", "watch"))
    return ProgramRanking(load_program(export_over_arch(Together(), schema, D), "x"))


@pytest.mark.parametrize("k", [1, 30, 70])
def test_a_listwise_over_arch_gets_all_candidates_of_a_query_in_one_call(
    together: ProgramRanking, k: int
) -> None:
    users, positions, similarities = asked(2, k)
    scores = together(users, positions, similarities, vectors_at)
    for b in range(2):
        items = VECTORS[positions[b]]
        wanted = users[b] @ (items - items.mean(0)).T + similarities[b]
        assert torch.allclose(scores[b], wanted, rtol=0, atol=1e-5)


def test_a_list_has_the_same_bytes_in_any_order_among_padding_and_beside_other_queries(
    together: ProgramRanking,
) -> None:
    users, positions, similarities = asked(3, 40)
    # Two of one similarity: the smaller position comes first.
    similarities[:, :, 7] = similarities[:, :, 8]
    whole = together(users, positions, similarities, vectors_at)
    order = torch.randperm(40)
    for b in range(3):
        padded = torch.cat([positions[b : b + 1, order], torch.full((1, 60), -1)], 1)
        beside = torch.cat([similarities[b : b + 1, :, order], torch.full((1, T, 60), 9.0)], 2)
        alone = together(users[b : b + 1], padded, beside, vectors_at)
        assert torch.equal(alone[0, :, :40], whole[b][:, order])


def test_of_more_candidates_than_a_list_takes_the_most_similar_are_scored(together: ProgramRanking) -> None:
    users, positions, similarities = asked(1, 100)
    scores = together(users, positions, similarities, vectors_at)[0]
    best = similarities[0].amax(0).argsort(descending=True)
    within, beyond = best[:70], best[70:]
    wanted = together(users, positions[:, within], similarities[:, :, within], vectors_at)[0]
    assert torch.equal(scores[:, within], wanted)
    assert (scores[:, beyond] == torch.finfo(torch.float32).min).all()


def test_no_candidates_of_a_list_have_no_scores(together: ProgramRanking) -> None:
    users, positions, similarities = asked(2, 0)
    assert together(users, positions, similarities, vectors_at).shape == (2, T, 0)
    nobody = torch.full((1, 5), -1)
    assert torch.isfinite(together(users[:1], nobody, torch.zeros(1, T, 5), vectors_at)).all()


def test_nan_and_infinity_of_a_program_become_numbers() -> None:
    users, positions, similarities = asked(1, 5)
    similarities[0, :, 2] = 7.0
    scores = ranking()(users, positions, similarities, vectors_at)
    assert torch.isfinite(scores).all()


def test_no_candidates_have_no_scores() -> None:
    users, positions, similarities = asked(2, 0)
    assert ranking()(users, positions, similarities, vectors_at).shape == (2, T, 0)
