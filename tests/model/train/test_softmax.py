import numpy as np
import torch

from meshfold.model.train.softmax import among, chances, draw_negatives, sampled_softmax_loss


def _loss(user: torch.Tensor, items: torch.Tensor, sample: np.ndarray, corrections: np.ndarray) -> float:
    """Of item 0 as the only target."""
    negatives = torch.from_numpy(sample)
    return float(
        sampled_softmax_loss(
            user.view(1, 1, -1),
            items[:1].unsqueeze(0),
            torch.ones(1, 1, 1, dtype=torch.bool),
            items[negatives],
            torch.from_numpy(corrections),
            among(negatives, torch.zeros(1, 1, dtype=torch.int64)),
        )
    )


def _drawn() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    user, items = torch.randn(4, generator=generator), torch.randn(50, 4, generator=generator)
    return user, items, np.cumsum(chances(np.arange(50, dtype=np.float32) ** 2))


def test_the_whole_catalog_gives_the_softmax() -> None:
    user, items, cumulated = _drawn()
    sample, corrections = draw_negatives(cumulated, 50, np.random.default_rng(0))
    assert sample.tolist() == list(range(50))
    expected = -torch.log_softmax(items @ user, 0)[0]
    np.testing.assert_allclose(_loss(user, items, sample, corrections), float(expected), rtol=1e-5)


def test_the_correction_makes_the_sampled_sum_right_on_average() -> None:
    user, items, cumulated = _drawn()
    scores = np.exp((items @ user).numpy().astype(np.float64))
    sums = []
    for seed in range(4000):
        sample, corrections = draw_negatives(cumulated, 20, np.random.default_rng(seed))
        assert (np.diff(sample) > 0).all()
        sums.append((scores[sample] * np.exp(corrections)).sum())
    # Five standard errors of the mean.
    assert abs(np.mean(sums) - scores.sum()) < 5 * np.std(sums) / np.sqrt(len(sums))
    uncorrected = [
        scores[draw_negatives(cumulated, 20, np.random.default_rng(seed))[0]].sum() for seed in range(200)
    ]
    assert np.mean(uncorrected) < 0.6 * scores.sum()


def test_items_without_interactions_are_drawn_too() -> None:
    assert (chances(np.zeros(4, np.float32)) == 0.25).all()
    drawn = chances(np.array([0.0, 9.0], np.float32))
    assert 0 < drawn[0] < drawn[1]
    np.testing.assert_allclose(drawn.sum(), 1.0)


def test_among_names_the_sampled_that_a_row_holds() -> None:
    sample = torch.tensor([2, 5, 9])
    rows = torch.tensor([[9, -1, 3], [2, 5, 11], [-1, -1, -1]])
    assert among(sample, rows).tolist() == [[False, False, True], [True, True, False], [False] * 3]
