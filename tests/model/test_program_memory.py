from __future__ import annotations

import gc
import linecache
import weakref

import torch
from torch import Tensor, nn

from meshfold.model.program import Program, export_program, load_program
from meshfold.model.program_memory import _sources

X = torch.arange(64.0).view(16, 4)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.layers(x) * y
        return out


def loaded() -> Program:
    return load_program(export_program(Layers(), (X, X[:, :1])), "x")


def sources() -> int:
    return len(_sources) + sum(name.startswith("<eval") for name in linecache.cache)


def test_no_source_of_a_graph_is_kept() -> None:
    data = export_program(Layers(), (X, X[:, :1]))
    before = sources()
    program = load_program(data, "x")
    first, second = program.halves()
    second(*first(X), X[:, :1])
    program.to("cpu")(X, X[:, :1])
    assert sources() == before


def test_a_program_that_nobody_holds_frees_its_tensors_without_a_collection() -> None:
    program = loaded()
    halves = program.halves()
    wanted = program(X, X[:, :1])
    exported = program._exported
    tensors = [weakref.ref(t) for p in (program, *halves) for t in (*p.buffers(), *p.parameters())]
    del program
    # The halves have tensors of their own modules, which are the same.
    assert torch.equal(halves[1](*halves[0](X), X[:, :1]), wanted)
    gc.disable()
    try:
        gc.freeze()
        del halves
        assert [tensor for tensor in tensors if tensor() is not None] == []
    finally:
        gc.unfreeze()
        gc.enable()
    assert not [*exported.parameters(), *exported.buffers()]
