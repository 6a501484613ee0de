"""Export of a module by torch.export, with a check that the graph fits a program and errors that name the cause."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._pytree import TreeSpec

from meshfold.model.errors import InvalidData
from meshfold.model.program_graph import portable
from meshfold.model.program_inline import inlined
from meshfold.model.program_refusals import (
    BATCH_NORM,
    FOREIGN,
    PACKED,
    SIZES,
    VALUES,
    check_parts,
    place_of,
    refusal,
)
from meshfold.model.program_signature import names_of

_aten = torch.ops.aten
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
# Remedies for operators that programs cannot contain, by a word of the operator's name.
_INSTEAD = {
    "pack": PACKED,
    "nested": "use padded tensors; of nn.TransformerEncoder pass enable_nested_tensor=False",
    "sparse": "use dense tensors",
}


def exported_of(
    module: nn.Module, example: tuple[Any, ...], computes: Callable[[str], bool]
) -> ExportedProgram:
    """Exports the module in eval mode for inputs with the shapes of `example`.

    computes: whether a program may call an operator by its name, such as torch.ops.aten.add.Tensor. Raises InvalidData
    with the cause and the remedy.
    """
    # A local import: it imports triton where that is installed, which torch.export imports anyway.
    from torch._dynamo import config

    check_parts(module, example)
    name = type(module).__name__
    try:
        # Static shapes: otherwise torch makes a size a symbol where an earlier export had another size.
        static = config.patch(automatic_dynamic_shapes=False)
        with _quiet(), static, torch.no_grad():
            exported = inlined(torch.export.export(module.eval(), example), example)
            portable(exported.graph)
    except InvalidData as error:
        # torch appends lines to errors from running graphs.
        raise InvalidData(f"{name} cannot be exported: {str(error).partition(chr(10))[0]}") from None
    except Exception as error:
        raise InvalidData(f"{name} cannot be exported: {refusal(module, example, error)}") from error
    cause = _cause(exported, computes)
    if cause:
        raise InvalidData(f"{name} cannot be exported: {cause}")
    return exported


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses torch's logs, warnings and prints during an export; the raised error has the cause."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _cause(exported: ExportedProgram, computes: Callable[[str], bool]) -> str:
    """A description of the first part of a graph that a program cannot contain; empty where there is none."""
    for name, constant in exported.constants.items():
        if not isinstance(constant, Tensor):
            return (
                f"uses {name!r}, a {type(constant).__name__}, which is no tensor; programs hold tensors alone"
            )
    for node in (node for node in exported.graph.nodes if node.op == "call_function"):
        if any(isinstance(value, _SYMBOLIC) for value in _values(node)):
            return f"turns a tensor into a Python number{_line(node)}; {VALUES}"
        if any(isinstance(n, torch.SymInt) for v in _values(node) if isinstance(v, Tensor) for n in v.shape):
            return f"makes a tensor whose size depends on values{_line(node)}; {SIZES}"
        if _updates_statistics(node):
            return f"normalises by statistics of the batch (batch norm in training mode){_line(node)}; {BATCH_NORM}"
        changed = _changed(node)
        if changed is not None:
            return _change(exported, changed, _line(node))
        operator = _name_of(node.target)
        if node.target is not getitem and not computes(operator):
            return _foreign(operator, _line(node))
        for device in (a for a in (*node.args, *node.kwargs.values()) if isinstance(a, torch.device)):
            if device.type != "cpu":
                return f"makes tensors on {device}{_line(node)}; make them on the inputs' device (device=x.device)"
    signature = exported.graph_signature
    for name in (*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()):
        return _change_of(name, exported, "")
    strange = _strange_tree(exported.call_spec.out_spec)
    return f"gives {strange}; give one tensor" if strange else ""


def _values(node: Node) -> Sequence[Any]:
    value = node.meta.get("val")
    return value if isinstance(value, tuple | list) else (value,)


def _line(node: Node) -> str:
    """The line of the module's own code that calls the operator, as text."""
    places = re.findall(
        r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)', node.meta.get("stack_trace") or ""
    )
    return place_of(*places[-1]) if places else ""


def _name_of(target: Any) -> str:
    return f"torch.ops.{target}" if isinstance(target, OpOverload) else str(target)


def _foreign(target: str, at: str) -> str:
    parts = target.split(".")
    if "quant" in target:
        return f"is quantised: it calls {target}{at}; use the float module that it was made from"
    if target.startswith("torch.ops.") and parts[2] != "aten":
        return f"calls torch.ops.{parts[2]}.{parts[3]}, an operator of its own{at}; {FOREIGN}"
    remedy = next(
        (remedy for word, remedy in _INSTEAD.items() if word in target), "write it in other operators"
    )
    return f"calls {target}{at}, which programs do not hold; {remedy}"


def _updates_statistics(node: Node) -> bool:
    """Whether the node is a batch norm that updates its running statistics."""
    if node.target is not _aten.batch_norm.default:
        return False
    running, training = node.args[3], node.args[5]
    return running is not None and training is True


def _changed(node: Node) -> Node | None:
    """The input, parameter or buffer that an operator changes in place, if any."""
    if not isinstance(node.target, OpOverload) or not node.target._schema.is_mutable:
        return None
    for place, argument in enumerate(node.target._schema.arguments):
        written = argument.alias_info is not None and argument.alias_info.is_write
        value = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
        if written and isinstance(value, Node):
            source = _source(value)
            if source.op == "placeholder":
                return source
    return None


def _source(node: Node) -> Node:
    """The tensor behind a view, or before a change in place."""
    while node.op == "call_function" and isinstance(node.target, OpOverload):
        schema = node.target._schema
        shared = [
            node.args[place]
            for place, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and place < len(node.args)
        ]
        if len(shared) != 1 or not isinstance(shared[0], Node):
            break
        node = shared[0]
    return node


def _change(exported: ExportedProgram, changed: Node, at: str) -> str:
    signature = exported.graph_signature
    names = {**signature.inputs_to_buffers, **signature.inputs_to_parameters}
    return _change_of(names.get(changed.name, changed.name), exported, at)


def _change_of(name: str, exported: ExportedProgram, at: str) -> str:
    given = [user_input for user_input in exported.graph_signature.user_inputs if isinstance(user_input, str)]
    if name in given:
        own_name = names_of(exported.call_spec.in_spec, given)[given.index(name)]
        return f"changes its input {own_name!r} in place{at}, which others read; change a copy (clone())"
    if name.endswith(("num_batches_tracked", "running_mean", "running_var")):
        return (
            f"normalises by statistics of the batch ({name!r}: batch norm in training mode){at}; {BATCH_NORM}"
        )
    return (
        f"changes its buffer {name!r} in place{at}; a program keeps nothing between calls: change a copy (clone()), or"
        " compute it anew"
    )


def _strange_tree(tree: TreeSpec | None) -> str:
    """The name of a container type in the tree other than tuple, list and dict; empty where there is none."""
    if tree is None or tree.is_leaf():
        return ""
    if tree.type not in (tuple, list, dict):
        # A named tuple's own type is in the context.
        kind = tree.context if isinstance(tree.context, type) else tree.type
        return kind.__name__
    return next(filter(None, map(_strange_tree, tree.children())), "")
