"""The signature of a program: names, shapes and dtypes of inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import TreeSpec


@dataclass(frozen=True)
class TensorType:
    """The type of a tensor. name: in forward, or "" for a result without a name. dtype: such as float32."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """The signature of a program. inputs: in order, with the entries of a dict one by one. outputs: in order."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


def signature_of(module: GraphModule) -> Signature:
    """Reads the graph of a loaded program."""
    given = [node for node in module.graph.nodes if node.op == "placeholder"]
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    pytree = getattr(module.graph._codegen, "pytree_info", None)
    names = [node.name for node in given]
    out_names: list[str] = []
    if pytree is not None:
        names = names_of(pytree.in_spec, names)
        out_names = names_of(pytree.out_spec, [])
    results = output.args[0] if isinstance(output.args[0], Sequence) else (output.args[0],)
    out_names += [""] * (len(results) - len(out_names))
    return Signature(
        tuple(_type(node, name) for node, name in zip(given, names, strict=True)),
        tuple(_type(node, name) for node, name in zip(results, out_names, strict=False)),
    )


def names_of(tree: TreeSpec, plain: Sequence[str]) -> list[str]:
    """The names of a tree's leaves: keys of dicts, else those of `plain`."""
    names: list[str] = []

    def read(part: TreeSpec, name: str) -> None:
        if part.is_leaf():
            place = len(names)
            names.append(name or (plain[place] if place < len(plain) else ""))
            return
        keys = part.context if part.type is dict else [name] * part.num_children
        for key, child in zip(keys, part.children(), strict=True):
            read(child, str(key))

    read(tree, "")
    return names


def _type(node: object, name: str) -> TensorType:
    value = node.meta.get("val") if isinstance(node, Node) else node
    if isinstance(value, Tensor):
        return TensorType(name, tuple(map(int, value.shape)), str(value.dtype).removeprefix("torch."))
    return TensorType(name, (), type(value).__name__)
