"""Each reason why a module is no program is told by itself, in one line: the cause, where it stands and the remedy."""

from __future__ import annotations

import re
import warnings
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from meshfold.model.errors import InvalidData
from meshfold.model.program import export_program

Forward = Callable[..., Any]
INPUTS = {
    "history": torch.ones(1, 6, dtype=torch.int64),
    "history_vectors": torch.ones(1, 6, 8),
    "in_history": torch.ones(1, 6, dtype=torch.bool),
    "country": torch.ones(1, 1, dtype=torch.int64),
}


class Made(nn.Module):
    """forward: what it does with the vectors of the history and with all inputs."""

    def __init__(self, forward: Forward, *parts: Any, **buffers: Tensor) -> None:
        super().__init__()
        self.out, self.parts, self._forward = nn.Linear(8, 8), nn.ModuleList(parts), forward
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, inputs: dict[str, Tensor]) -> Any:
        return self._forward(self, inputs["history_vectors"], inputs)


def of_mean(m: Any, x: Tensor, inputs: Any) -> Any:
    return m.out(x.mean(1))


def refused(module: nn.Module, *given: Any) -> str:
    with pytest.raises(InvalidData) as caught:
        export_program(module, given or (INPUTS,))
    text = str(caught.value)
    start = f"{type(module).__name__} cannot be exported: "
    assert text.startswith(start)
    assert len(text.splitlines()) == 1
    return text.removeprefix(start)


@torch.library.custom_op("meshfold_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("meshfold_tests::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    return x * 2


@torch.library.custom_op("meshfold_tests::doubled", mutates_args={"x"})
def doubled(x: Tensor) -> None:
    x.mul_(2)


@dataclass
class Answer:
    vectors: Tensor


Pair = namedtuple("Pair", "a b")


def written(m: Any, x: Tensor, inputs: Any) -> Any:
    m.scratch[:, :4] = x.mean(1)[:, :4]
    return m.out(m.scratch)


def assigned(m: Any, x: Tensor, inputs: Any) -> Any:
    m.scratch = m.scratch + 1
    return m.out(x.mean(1) + m.scratch)


def looped(m: Any, x: Tensor, inputs: Any) -> Any:
    for _ in range(int(inputs["in_history"].sum())):
        x = x * 2
    return m.out(x.mean(1))


def own_gradients(m: Any, x: Tensor, inputs: Any) -> Any:
    with torch.enable_grad():
        x = x.mean(1).detach().requires_grad_()
        return torch.autograd.grad(m.out(x).sum(), x)[0]


def raising(m: Any, x: Tensor, inputs: Any) -> Any:
    raise ValueError("a history of 50 is wanted")


CALLS: dict[str, tuple[Forward, str]] = {
    # Inputs that are not declared.
    "input, misspelt": (
        lambda m, x, i: i["contry"],
        r"reads the input 'contry' at test_program_refusals\.py:\d+ `.*`, which it does not get;"
        r" did you mean 'country'\?; declare it in the schema, \[inputs\.contry\], or do not read it",
    ),
    "input, by get": (
        lambda m, x, i: i.get("device").float(),
        r"reads the input 'device' .*\[inputs\.device\]",
    ),
    "a key of another dict": (lambda m, x, i: vars(m)["size"], r"forward raises KeyError at .*: 'size'"),
    "input, as an attribute": (lambda m, x, i: i.history, r"forward\(self, inputs\) is called with one dict"),
    # Values in place of tensors.
    "branch": (
        lambda m, x, i: x if x.sum() > 0 else -x,
        r"branches on values.* at .*`.*x\.sum.*`; .*torch\.where",
    ),
    "slice": (
        lambda m, x, i: x[:, : int(i["in_history"].sum())].mean(1),
        r"branches on values.*torch\.where",
    ),
    "loop": (looped, r"branches on values.*range.*torch\.where"),
    "number": (
        lambda m, x, i: m.out(x.mean(1)) * i["country"].sum().item(),
        r"turns a tensor into a Python number at",
    ),
    "list": (
        lambda m, x, i: m.out(x.mean(1)) * i["country"].tolist()[0][0],
        r"turns a tensor into a Python number",
    ),
    "mask": (
        lambda m, x, i: x[i["in_history"]].mean(0),
        r"makes a tensor whose size depends on values at .*masks",
    ),
    "unique": (
        lambda m, x, i: x.mean(1) * torch.unique(i["history"]).sum(),
        r"makes a tensor whose size depends",
    ),
    "nonzero": (lambda m, x, i: torch.nonzero(x).sum(), r"makes a tensor whose size depends on values at"),
    "numpy": (
        lambda m, x, i: torch.from_numpy(x.numpy()),
        r"turns tensors into numpy arrays at .*torch's operators",
    ),
    # Sequences.
    "packed": (
        lambda m, x, i: m.parts[0](
            rnn.pack_padded_sequence(x, i["in_history"].sum(1), batch_first=True, enforce_sorted=False)
        )[1],
        r"packs sequences \(torch\.nn\.utils\.rnn\) at .*gather$",
    ),
    "packed, by pack_sequence": (
        lambda m, x, i: m.parts[0](rnn.pack_sequence([x[0]]))[1],
        r"packs sequences",
    ),
    # What a program would keep.
    "buffer, a part of it": (written, r"changes its buffer 'scratch' in place at .*change a copy"),
    "buffer, assigned": (assigned, r"changes its buffer 'scratch' in place"),
    "buffer, counted": (lambda m, x, i: m.scratch.add_(1), r"changes its buffer 'scratch' in place"),
    "input, changed": (
        lambda m, x, i: m.out(x.mul_(2).mean(1)),
        r"changes its input 'history_vectors' in place at .*, which others read; change a copy \(clone\(\)\)",
    ),
    "statistics": (
        lambda m, x, i: nn.functional.batch_norm(x, m.mean, m.mean, training=True),
        r"normalises by statistics of the batch \(batch norm in training mode\) at .*training=False",
    ),
    # Operators.
    "own operator": (
        lambda m, x, i: torch.ops.meshfold_tests.twice(x),
        r"calls torch\.ops\.meshfold_tests\.twice, an operator of its own at .*torch's own operators",
    ),
    "own operator, unknown": (
        lambda m, x, i: torch.ops.meshfold_tests.unknown(x),
        r"calls torch\.ops\.meshfold_tests\.unknown, an operator of its own at",
    ),
    "own operator, in place": (
        lambda m, x, i: torch.ops.meshfold_tests.doubled(x + 1),
        r"calls torch\.ops\.meshfold_tests\.doubled, an operator of its own at",
    ),
    "fake quantised": (
        lambda m, x, i: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
        r"is quantised: it calls torch\.ops\.aten\.fake_quantize.* at .*; use the float module",
    ),
    "quantised on the way": (
        lambda m, x, i: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize(),
        r"is quantised: it calls torch\.ops\.aten\.quantize_per_tensor",
    ),
    "a generator": (
        lambda m, x, i: x + torch.rand(8, generator=torch.Generator()),
        r"uses '.*', a Generator, which is no tensor; programs hold tensors alone",
    ),
    "data": (lambda m, x, i: m.out.weight.data @ x.mean(1)[0], r"computes with a tensor .* reads `\.data`"),
    "sparse": (lambda m, x, i: m.out(x[0].to_sparse().to_dense()), r"(calls|uses) .*(sparse|dense)"),
    "gradients": (
        own_gradients,
        r"computes with a tensor that the export cannot follow, .*torch\.autograd\.grad",
    ),
    # Devices.
    "to a GPU": (lambda m, x, i: m.out(x.cuda()), r"needs a GPU at .*exported on the CPU.*device=x\.device"),
    "made on a GPU": (lambda m, x, i: x + torch.ones(8, device="cuda"), r"needs a GPU at .*device=x\.device"),
    # Answers.
    "dataclass": (lambda m, x, i: Answer(x), "gives Answer; give one tensor"),
    "named tuple": (lambda m, x, i: Pair(x, x), "gives Pair; give one tensor"),
    # The module's own errors.
    "shape": (
        lambda m, x, i: m.out(x.mean(2)),
        r"forward raises RuntimeError at test_program_refusals\.py:\d+ `.*`: .*\[1, 6\] X \[8, 8\]",
    ),
    "error": (raising, r"forward raises ValueError at .*`raise ValueError.*`: a history of 50 is wanted"),
}


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.filterwarnings("ignore:.*non-leaf:UserWarning")
def test_what_forward_does_is_named(what: str) -> None:
    forward, message = CALLS[what]
    made = Made(forward, nn.GRU(8, 8, batch_first=True), scratch=torch.zeros(1, 8), mean=torch.ones(6))
    assert re.match(message, refused(made))


def one_by_one(history: Any = None, history_vectors: Any = None, in_history: Any = None) -> Any:
    return history_vectors.mean(1)


def by_name(**inputs: Any) -> Any:
    return inputs["history_vectors"].mean(1)


@pytest.mark.parametrize(
    "forward",
    [
        one_by_one,
        by_name,
        lambda history_vectors: history_vectors.mean(1),
        lambda users, items: users,
        lambda: 0,
        lambda x: x.mean(1),
        lambda x: torch.relu(x),
    ],
)
def test_a_forward_that_takes_anything_but_the_dict_is_told_so(forward: Forward) -> None:
    class Other(nn.Module):
        pass

    Other.forward = staticmethod(forward)
    assert re.match(r"forward\(self.*\) is called with one dict of all inputs", refused(Other()))


def test_an_over_arch_of_other_arguments_is_told_what_it_gets() -> None:
    tensors = (torch.zeros(1, 2, 8), torch.zeros(1, 5, 8), torch.zeros(1, 2, 5))
    told = refused(Made(of_mean), *tensors)
    assert told.startswith(
        "forward(self, inputs) is called with user vectors, item vectors and similarities (too many"
    )


def test_attributes_that_hide_those_of_graphs_are_named() -> None:
    made = Made(lambda m, x, i: m.graph(x.mean(1)))
    made.graph = nn.Linear(8, 8)
    assert refused(made).startswith("torch's graphs have an attribute 'graph' of their own")


def parts_of_other_kinds() -> list[tuple[str, nn.Module, str]]:
    linear = nn.Linear(8, 8)
    traced: Any = torch.jit.trace(linear, torch.zeros(1, 8))  # type: ignore[no-untyped-call]
    compiled = nn.Module()
    compiled.function = torch.jit.script(_scripted)  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.Sequential(linear), {nn.Linear}, torch.qint8
        )
        quantised = torch.quantize_per_tensor(torch.zeros(8), 0.1, 0, torch.qint8)
        sparse = torch.eye(8).to_sparse_csr()
    return [
        ("scripted", torch.jit.script(nn.Sequential(linear)), r"its part 'parts\.0' is TorchScript"),
        ("traced", traced, r"its part 'parts\.0' is TorchScript"),
        ("a function", compiled, r"its part 'parts\.0' holds TorchScript \(function"),
        (
            "quantised layers",
            dynamic,
            r"its part 'parts\.0\.0' is quantised \(torch\.ao\.nn\.quantized\.dynamic",
        ),
        ("a quantised tensor", Made(of_mean, kept=quantised), r".* holds 'kept', which is quantised"),
        ("a sparse tensor", Made(of_mean, kept=sparse), r".* holds 'kept', which is sparse"),
        ("not initialised", nn.LazyLinear(8), r"its part 'parts\.0' holds 'weight', which has no values yet"),
        ("without values", nn.Linear(8, 8, device="meta"), r".* holds 'weight', which is on the meta device"),
        ("for several GPUs", nn.DataParallel(linear), r"its part 'parts\.0' is wrapped for several devices"),
    ]


def _scripted(x: Tensor) -> Tensor:
    return x * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Lazy modules", "ignore:.*deprecated")
def test_parts_that_the_export_cannot_see_into_are_named() -> None:
    for what, part, message in parts_of_other_kinds():
        assert re.match(message, refused(Made(of_mean, part))), what
