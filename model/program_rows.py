"""Which programs compute every row for itself, in the same way whatever their number."""

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
    """Whether the program takes any number of rows, whose results do not depend on it: it has nothing but linear layers
    of our kernel's and elementwise operators of them.

    rows: of the last inputs, the dimensions that hold rows. Those of the result are its last dimension.
    """
    nodes = list(module.graph.nodes)
    given = [node for node in nodes if node.op == "placeholder"][-len(rows) :]
    # Counted from the last dimension, from which operators put tensors side by side.
    held = {node: at - _value(node).dim() for node, at in zip(given, rows, strict=True)}
    for node in nodes:
        if held.keys().isdisjoint(node.all_input_nodes):
            continue
        at = {held.get(argument) for argument in node.all_input_nodes}
        if node.op == "output":
            return at == {-1}
        after = _rows_after(node, held)
        if after is None:
            return False
        held[node] = after
    return False


def _rows_after(node: Node, held: dict[Node, int]) -> int | None:
    """The dimension of the rows in a node's result; None where it may mix rows, or depends on their number."""
    given: Any = node.args
    if node.target is _aten.transpose.int:
        x, *swapped = given
        count, at = _value(x).dim(), held[x]
        a, b = (i % count - count for i in swapped)
        return b if at == a else a if at == b else at
    met = {held[argument] for argument in node.all_input_nodes if argument in held}
    if len(met) > 1:
        return None
    (at,) = met
    if node.target is LAYERS:
        inputs, weights, biases, _ = given
        own = {argument for argument in (*weights, *biases) if argument is not None}
        fits = fit(*([part and _value(part) for part in parts] for parts in (inputs, weights, biases)))
        apart = at < -1 and held.keys() >= set(inputs) and held.keys().isdisjoint(own)
        return at if fits and apart else None
    if node.target is LAYERS_INT8:
        inputs, _, weights, biases, _ = given
        own = {argument for argument in (*weights, *biases) if argument is not None}
        return at if at < -1 and held.keys() >= set(inputs) and held.keys().isdisjoint(own) else None
    beside = [_value(argument) for argument in node.all_input_nodes if argument not in held]
    spread = all(value.dim() < -at or value.shape[at] == 1 for value in beside)
    return at if node.target in _ELEMENTWISE and spread else None


def _value(node: Node) -> Tensor:
    value: Tensor = node.meta["val"]
    return value
