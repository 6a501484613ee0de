"""A module as torch.export has it, with nothing in it that a program does not hold; else the cause, by name."""

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
# Replacements for operators that programs cannot contain, by a word of their names.
_INSTEAD = {
    "pack": PACKED,
    "nested": "use padded tensors; of nn.TransformerEncoder pass enable_nested_tensor=False",
    "sparse": "use dense tensors",
}


def exported_of(
    module: nn.Module, example: tuple[Any, ...], computes: Callable[[str], bool]
) -> ExportedProgram:
    """The module in eval mode, exported for inputs of the shapes of `example`.

    computes: whether a program may call the operator of a name, such as torch.ops.aten.add.Tensor. Raises InvalidData,
    which names the cause and the remedy in one line.
    """
    # It imports triton where that is installed; torch.export imports it anyway.
    from torch._dynamo import config

    check_parts(module, example)
    name = type(module).__name__
    try:
        # What another module was called with makes no shape of this one's a symbol.
        static = config.patch(automatic_dynamic_shapes=False)
        with _quiet(), static, torch.no_grad():
            exported = inlined(torch.export.export(module.eval(), example), example)
            portable(exported.graph)
    except InvalidData as error:
        # Where a graph was run torch adds lines of its own.
        raise InvalidData(f"{name} cannot be exported: {str(error).partition(chr(10))[0]}") from None
    except Exception as error:
        raise InvalidData(f"{name} cannot be exported: {refusal(module, example, error)}") from error
    cause = _cause(exported, computes)
    if cause:
        raise InvalidData(f"{name} cannot be exported: {cause}")
    return exported


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses torch's logs, warnings and prints during an export; the error reports what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _cause(exported: ExportedProgram, computes: Callable[[str], bool]) -> str:
    """The parts of a graph that a program cannot contain; empty where there are none."""
    for name, held in exported.constants.items():
        if not isinstance(held, Tensor):
            return f"uses {name!r}, a {type(held).__name__}, which is no tensor; programs hold tensors alone"
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
        told = _told(node.target)
        if node.target is not getitem and not computes(told):
            return _foreign(told, _line(node))
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
    """Where in the module's own code the operator is called."""
    places = re.findall(
        r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)', node.meta.get("stack_trace") or ""
    )
    return place_of(*places[-1]) if places else ""


def _told(target: Any) -> str:
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
    """Whether it is a batch norm that changes the running statistics it is given."""
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
        held = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
        if written and isinstance(held, Node):
            source = _source(held)
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
    held = {**signature.inputs_to_buffers, **signature.inputs_to_parameters}
    return _change_of(held.get(changed.name, changed.name), exported, at)


def _change_of(name: str, exported: ExportedProgram, at: str) -> str:
    given = [told for told in exported.graph_signature.user_inputs if isinstance(told, str)]
    if name in given:
        told = names_of(exported.call_spec.in_spec, given)[given.index(name)]
        return f"changes its input {told!r} in place{at}, which others read; change a copy (clone())"
    if name.endswith(("num_batches_tracked", "running_mean", "running_var")):
        return (
            f"normalises by statistics of the batch ({name!r}: batch norm in training mode){at}; {BATCH_NORM}"
        )
    return (
        f"changes its buffer {name!r} in place{at}; a program keeps nothing between calls: change a copy (clone()), or"
        " compute it anew"
    )


def _strange_tree(tree: TreeSpec | None) -> str:
    """The name of a type of containers that programs do not know."""
    if tree is None or tree.is_leaf():
        return ""
    if tree.type not in (tuple, list, dict):
        # Of a named tuple the type is told by the context.
        told = tree.context if isinstance(tree.context, type) else tree.type
        return told.__name__
    return next(filter(None, map(_strange_tree, tree.children())), "")
