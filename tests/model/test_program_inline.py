"""Higher-order operators of torch.export: written out as plain operators, or named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.utils.checkpoint import checkpoint

from meshfold.model import program_inline
from meshfold.model.errors import InvalidData
from meshfold.model.program import export_program, load_program
from meshfold.model.program_difference import as_written

X = torch.linspace(-1, 1, 16 * 8).sin().view(1, 16, 8)
Layers = nn.ModuleDict
Body = Callable[[Any, Tensor], Tensor]


class Made(nn.Module):
    """A module of two layers, a and b, whose forward is the body."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self._body = nn.Linear(8, 8), nn.Linear(8, 8), body

    def forward(self, x: Tensor) -> Tensor:
        return self._body(self, x)


def switched(m: Any, x: Tensor) -> Tensor:
    """Gradients on and off, a checkpoint, and an autocast that is off, as public rotary embeddings have it."""
    with torch.enable_grad():
        y = checkpoint(lambda v: torch.relu(m.a(v)), x, use_reentrant=False)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            angles = torch.arange(16).float()[:, None] * x[0, 0]
        with torch.autocast("cuda", dtype=torch.float16):
            out: Tensor = m.b(y * angles.cos())
    return out


def cast(m: Any, x: Tensor) -> Tensor:
    """An autocast that is on, with one that is off and a torch.cond within."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = m.a(x)
        with torch.autocast("cpu", enabled=False):
            z = y.float() * 2
        chosen: Tensor = torch.cond(x.sum() > 0, lambda v: m.b(v).float(), lambda v: v.float() - 1, (z,))
    return chosen


def branches(m: Any, x: Tensor) -> Tensor:
    """torch.cond within torch.cond."""

    def within(v: Tensor) -> Tensor:
        inner: Tensor = torch.cond(v.mean() > 0, lambda u: m.a(u) * 2, lambda u: u.tanh(), (v,))
        return inner

    out: Tensor = torch.cond(x[0, 0, 0] > 0, lambda v: m.b(v), within, (x,))
    return out


def loops(m: Any, x: Tensor) -> Tensor:
    rows = x.transpose(0, 1)
    last, passed = scan(lambda c, v: (torch.tanh(m.a(c) + v), c + v), torch.zeros_like(rows[0]), rows)
    relus: Any = lambda v: torch.relu(m.b(v))  # noqa: E731
    summed = associative_scan(lambda a, b: a + b, x, dim=1, combine_mode="generic")
    mapped = torch_map(relus, x[0, :5]).mean(0)
    out: Tensor = torch.vmap(lambda v: v.amax(0))(summed) + last + passed.mean(0) + mapped
    return out


def attention(m: Any, x: Tensor) -> Tensor:
    q = m.a(x).view(1, 16, 2, 4).transpose(1, 2)
    mask = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 16, 16, device="cpu")
    seen = flex_attention(q, q, x.view(1, 16, 2, 4).transpose(1, 2), lambda s, b, h, i, j: s - (i - j), mask)
    assert isinstance(seen, Tensor)
    return seen.transpose(1, 2).reshape(1, 16, 8)


@pytest.mark.parametrize(
    ("body", "apart"),
    [(switched, 1e-6), (cast, 2e-2), (branches, 1e-6), (loops, 1e-5), (attention, 1e-5)],
)
@pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:flex_attention")
def test_what_torch_holds_in_graphs_of_their_own_is_written_out(body: Body, apart: float) -> None:
    made = Made(body).eval()
    program = load_program(export_program(made, (X,)), "x")
    assert program.is_half == (body is cast)
    for given in (X, -X, X * 3):
        with torch.no_grad(), as_written():
            wanted = made(given)
        torch.testing.assert_close(program(given), wanted, rtol=apart, atol=apart)


def test_what_needs_no_writing_out_keeps_its_bytes() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            best, _ = self.a(x).topk(3, dim=-1)
            out: Tensor = self.b(x) + best.sum(-1, keepdim=True)
            return out

    program = load_program(export_program(Plain(), (X,)), "x")
    assert {name for name, _ in program.named_parameters()} == {
        f"_exported.{layer}.{part}" for layer in "ab" for part in ("weight", "bias")
    }


def forever(m: Any, x: Tensor) -> Tensor:
    _, y = while_loop(  # type: ignore[no-untyped-call]
        lambda n, v: n < 3, lambda n, v: (n + 1, v * 2), (torch.zeros((), dtype=torch.int64), x)
    )
    assert isinstance(y, Tensor)
    return y


def long(m: Any, x: Tensor) -> Tensor:
    def step(carried: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(8):
            carried = torch.tanh(carried + v)
        return carried, carried.clone()

    last, _ = scan(step, torch.zeros_like(x[:, 0]), x.transpose(0, 1))
    assert isinstance(last, Tensor)
    return last


def aliased(m: Any, x: Tensor) -> Tensor:
    added: Any = lambda v, w: m.a(v) + w  # noqa: E731
    first: Any = x[0, 0]
    mapped: Tensor = torch_map(added, x[0], first)
    return mapped


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            forever,
            r"calls torch\.while_loop, which programs do not hold; run a fixed number of steps in a Python loop",
        ),
        (
            long,
            r"loops over 16 steps, \d+ operators when unrolled; programs hold at most 64 of a loop",
        ),
        (
            aliased,
            r"calls torch map .* at test_program_inline\.py:\d+ `.*torch_map.*`, whose function torch cannot",
        ),
    ],
)
def test_others_are_named(body: Body, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_inline, "_MOST_OPERATORS", 64)
    with pytest.raises(InvalidData, match=f"^Made cannot be exported: {message}") as caught:
        export_program(Made(body), (X,))
    assert "\n" not in str(caught.value)
