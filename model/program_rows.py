"""The check that a program computes every row independently of the other rows and of their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from meshfold.kernels.layers.layers import LAYERS, fit
from meshfold.kernels.layers.layers_int8 import LAYERS_INT8

_aten = torch.ops.aten
_ELEMENTWISE = {
    *(getattr(_aten, name).Tensor for name in ("add", "sub", "mul", "div")),
    *(getattr(_aten, name).default for name in ("neg", "exp", "relu", "sigmoid", "tanh")),
}


def row_by_row(module: GraphModule, rows: Sequence[int]) -> bool:
    """Whether the program can run with any number of rows, and a row's result does not depend on it.

    True for programs of meshfold's linear layers and elementwise operators alone. rows: the dimension of rows in each
    of the last inputs. The result's rows must be its last dimension.
    """
    nodes = list(module.graph.nodes)
    given = [node for node in nodes if node.op == "placeholder"][-len(rows) :]
    # The dimension of rows in each node's value, counted from the last one, at which broadcasting aligns tensors.
    row_dims = {node: at - _value(node).dim() for node, at in zip(given, rows, strict=True)}
    for node in nodes:
        if row_dims.keys().isdisjoint(node.all_input_nodes):
            continue
        at = {row_dims.get(argument) for argument in node.all_input_nodes}
        if node.op == "output":
            return at == {-1}
        after = _rows_after(node, row_dims)
        if after is None:
            return False
        row_dims[node] = after
    return False


def _rows_after(node: Node, row_dims: dict[Node, int]) -> int | None:
    """The dimension of the rows in a node's result; None where it may mix rows, or depends on their number."""
    given: Any = node.args
    if node.target is _aten.transpose.int:
        x, *swapped = given
        count, at = _value(x).dim(), row_dims[x]
        a, b = (i % count - count for i in swapped)
        return b if at == a else a if at == b else at
    before = {row_dims[argument] for argument in node.all_input_nodes if argument in row_dims}
    if len(before) > 1:
        return None
    (at,) = before
    if node.target is LAYERS:
        inputs, weights, biases, _ = given
        own = {argument for argument in (*weights, *biases) if argument is not None}
        fits = fit(*([part and _value(part) for part in parts] for parts in (inputs, weights, biases)))
        apart = at < -1 and row_dims.keys() >= set(inputs) and row_dims.keys().isdisjoint(own)
        return at if fits and apart else None
    if node.target is LAYERS_INT8:
        inputs, _, weights, biases, _ = given
        own = {argument for argument in (*weights, *biases) if argument is not None}
        return at if at < -1 and row_dims.keys() >= set(inputs) and row_dims.keys().isdisjoint(own) else None
    beside = [_value(argument) for argument in node.all_input_nodes if argument not in row_dims]
    spread = all(value.dim() < -at or value.shape[at] == 1 for value in beside)
    return at if node.target in _ELEMENTWISE and spread else None


def _value(node: Node) -> Tensor:
    value: Tensor = node.meta["val"]
    return value
