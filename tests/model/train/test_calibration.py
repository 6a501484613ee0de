import torch

from meshfold.model.train.calibration import fit_platt


def test_probabilities_are_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(200_000, generator=generator) + 8
    labels = torch.rand(200_000, generator=generator) < torch.sigmoid(0.5 * logits - 7)
    slope, offset = fit_platt(logits, labels)
    # Four standard errors, seen over other seeds.
    assert abs(slope - 0.5) < 0.02
    assert abs(offset + 7) < 0.2


def test_the_order_stays_whatever_the_labels_say() -> None:
    logits = torch.linspace(0, 1, 100)
    slope, _ = fit_platt(logits, logits < 0.3)
    assert slope > 0


def test_nothing_to_learn_from_changes_nothing() -> None:
    logits = torch.linspace(0, 1, 10)
    assert fit_platt(logits, torch.zeros(10, dtype=torch.bool)) == (1.0, 0.0)
    assert fit_platt(torch.ones(10), logits < 0.5) == (1.0, 0.0)
