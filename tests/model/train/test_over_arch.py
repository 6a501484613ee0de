import pytest
import torch

from meshfold.model.program import export_program, load_program
from meshfold.model.train.config import OverArchKind
from meshfold.model.train.over_arch import OverArch, new_over_arch

KINDS = [OverArchKind.MLP, OverArchKind.MOL]


def _inputs(batch: int, items: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    users = torch.randn(batch, 2, 8, generator=generator)
    vectors = torch.randn(batch, items, 8, generator=generator)
    return users, vectors, users @ vectors.transpose(1, 2)


def _trained(kind: OverArchKind) -> OverArch:
    module = new_over_arch(kind, 2, 8, (16, 8), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in module.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator))
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_one_orders_by_similarity(kind: OverArchKind) -> None:
    inputs = _inputs(3, 40)
    module = new_over_arch(kind, 2, 8, (16, 8), 0)
    torch.testing.assert_close(module.logits(*inputs), inputs[2])
    assert torch.equal(module(*inputs).argsort(2), inputs[2].argsort(2))


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient_after_a_step(kind: OverArchKind) -> None:
    module = _trained(kind)
    chosen = module.logits(*_inputs(3, 40)).softmax(2)[:, :, 0].sum()
    assert all(slope.any() for slope in torch.autograd.grad(chosen, list(module.parameters())))


@pytest.mark.parametrize("kind", KINDS)
def test_an_items_score_depends_on_no_other(kind: OverArchKind) -> None:
    module, (users, vectors, similarities) = _trained(kind).eval(), _inputs(2, 40)
    some = module(users[1:], vectors[1:, 7:9], similarities[1:, :, 7:9])
    torch.testing.assert_close(module(users, vectors, similarities)[1:, :, 7:9], some)


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_is_the_module(kind: OverArchKind) -> None:
    module, inputs = _trained(kind).eval(), _inputs(1, 64)
    with torch.no_grad():
        module.slope.fill_(0.5)
    scores = module(*inputs).detach()
    program = load_program(export_program(module, inputs), "over_arch.pt2")
    torch.testing.assert_close(program(*inputs), scores)
    assert 0 < float(scores.min()) < float(scores.max()) < 1


@pytest.mark.parametrize("batch", [1, 3])
def test_what_serving_folds_together_is_what_was_trained(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshfold.model.train.over_arch.DROPOUT", 0.0)
    module, inputs = _trained(OverArchKind.MLP), _inputs(batch, 40)
    torch.testing.assert_close(module.train()(*inputs), module.eval()(*inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_an_untaught_task_has_the_mean_score_of_the_others(kind: OverArchKind) -> None:
    module, inputs = _trained(kind).eval(), _inputs(1, 64)
    scores = module(*inputs).detach()
    module.untaught = (1,)
    assert torch.equal(module(*inputs), scores[:, [0, 0]])
    program = load_program(export_program(module, inputs), "over_arch.pt2")
    torch.testing.assert_close(program(*inputs), scores[:, [0, 0]])
