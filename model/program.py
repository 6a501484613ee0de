"""Float modules as programs: exported once, and run without the module's Python code.

A program is an archive of torch.export with the graph as JSON and raw tensors alone. Example inputs, guards, stack
traces and other entries that would be unpickled or evaluated, or that differ from run to run, are removed at export and
refused at reading.
"""

from __future__ import annotations

import io
import json
import re
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from meshfold.kernels.operation import is_traced
from meshfold.model.errors import InvalidData, SnapshotRefused
from meshfold.model.program_call import direct
from meshfold.model.program_graph import (
    fastest,
    halves,
    in_integers,
    is_half,
    move,
    random_operators,
    take_codes,
)
from meshfold.model.program_memory import forgotten_sources, release
from meshfold.model.program_rows import row_by_row
from meshfold.model.program_signature import Signature, signature_of
from meshfold.model.tensor_file import read_whole

# Limit of a program with its weights: that of zip archives without the 64-bit extension.
MOST_PROGRAM_BYTES = 2**32 - 1

_GRAPH = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_WEIGHTS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN = ("archive_format", "archive_version", "byteorder", ".data/version")
# Allowed operators; a graph with any other target is refused before it is built. The dispatcher's list has operators on
# tensors alone, without TorchScript's, such as aten::save. from_file is excluded, for it reads and creates files.
_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_OPERATORS = frozenset(torch._C._dispatch_get_all_op_names()) - {"aten::from_file", "aten::from_file.out"}
# Refused operators: they read memory by unchecked arguments (indices, packed weights, storage sizes), are useless in a
# forward pass over plain tensors, or belong to torch's own tests.
_TRUSTING = re.compile(
    r"sparse|nested|jagged|backward|coo|csr|csc|bsr|bsc|quantiz|mkldnn|fbgemm|int[48]pack|dyn_quant|_packed_sequence"
    r"|_buffer|_reshape_alias|resize|set_$|set_data|_unsafe_(index|masked)|_index_put_impl|segment_reduce|_thnn_|_sobol"
    r"|_unpack|_test_|_fused_(ada|sgd)|_amp_|_philox|_cufft|_foobar|_prepack|_choose_qparams|_rowwise_prune|_copy_from"
)
# Allowed container types of inputs and outputs. For other types, and for enums in contexts, torch imports modules.
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
# Keys of the serialised graph whose values would be parsed as code.
_CODE_KEYS = frozenset({"expr_str", "as_sym_int", "as_sym_float", "as_sym_bool", "as_graph", "as_operator"})


def use_ieee_floats() -> None:
    """Disables TensorFloat-32 (10 bits of mantissa) in this process, so that a GPU multiplies in float32."""
    # With the newer setting, fp32_precision, torch 2.13 fails to export in the same process.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


class Program(nn.Module):
    """A loaded program: inference alone, with the shapes of its export, on the device that it is moved to."""

    def __init__(self, exported: GraphModule) -> None:
        super().__init__()
        self._exported: GraphModule = exported.requires_grad_(False)
        self._direct: Callable[..., Any] | None = None
        weakref.finalize(self, release, exported).atexit = False

    def forward(self, *inputs: Any) -> Any:
        if is_traced():
            return self._exported.forward(*inputs)
        if self._direct is None:
            with forgotten_sources():
                self._direct = direct(self._exported)
        return self._direct(*inputs)

    def halves(self) -> tuple[Program, Program]:
        """Splits a program of tensors in and one tensor out into two programs.

        The first computes every value that depends on the first input alone, as a tuple. The second takes these
        tensors, then the other inputs.
        """
        with forgotten_sources():
            first, second = halves(self._exported)
        return Program(first), Program(second)

    def use_integers(self) -> int:
        """Switches linear layers to integer multiplication. Returns the number of layers."""
        with forgotten_sources():
            count = in_integers(self._exported)
        self._direct = None
        return count

    def take_codes(self, place: int) -> bool:
        """Switches the input at a place to codes and peaks (program_graph.py). Returns whether that is possible."""
        with forgotten_sources():
            taken = take_codes(self._exported, place)
        self._direct = None
        return taken

    @property
    def signature(self) -> Signature:
        """Names, shapes and dtypes of inputs and outputs."""
        return signature_of(self._exported)

    @property
    def random_operators(self) -> list[str]:
        """The Python names of operators that draw random numbers."""
        return random_operators(self._exported.graph)

    @property
    def is_half(self) -> bool:
        """Whether the program computes with 16-bit floats, which round coarsely."""
        return is_half(self._exported.graph)

    def row_by_row(self, rows: Sequence[int]) -> bool:
        """Whether the program can run with any number of rows (model/program_rows.py)."""
        return row_by_row(self._exported, rows)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the module (called by torch), and the tensors that the graph creates."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        with forgotten_sources():
            move(self._exported, fn(torch.empty(0)).device)
        self._direct = None
        return self

    def train(self, mode: bool = True) -> Self:
        """Does nothing, since a program has one mode."""
        return self


def export_program(module: nn.Module, example: tuple[Any, ...]) -> bytes:
    """The program of a module for inputs with the shapes of `example`; equal modules give equal bytes.

    Raises InvalidData with the obstacle and the remedy where the module cannot be exported.
    """
    # A local import: it imports parts of torch that a server does not need.
    from meshfold.model.program_export import exported_of

    exported = exported_of(module, example, _computes)
    written = io.BytesIO()
    torch.export.save(exported, written)
    kept = {}
    with zipfile.ZipFile(written) as source:
        for name in sorted(source.namelist()):
            inner = name.partition("/")[2]
            if inner == ".data/serialization_id":
                continue
            data = source.read(name)
            if inner == _EXAMPLES:
                data = b""
            elif inner == _GRAPH:
                data = _plain_graph(data)
            kept[name] = data
    program = _archive(kept)
    try:
        load_program(program, type(module).__name__)
    except SnapshotRefused as error:
        reason = str(error).partition(": ")[2].removesuffix("; publish the snapshot again")
        raise InvalidData(f"{type(module).__name__} cannot be exported: {reason}") from error
    return program


def load_program(data: bytes, where: str) -> Program:
    """Loads a program from its bytes. Raises SnapshotRefused where they are invalid or have unknown entries."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(archive, where)
            # A new archive of the checked entries: torch's reader may find other entries in the same bytes.
            checked = _archive({name: archive.read(name) for name in archive.namelist()})
        with forgotten_sources():
            loaded = torch.export.load(io.BytesIO(checked)).module()
            _check_tensors(loaded, where)
            fastest(loaded)
    except SnapshotRefused:
        raise
    except Exception as error:
        # Readers of zip, JSON and graphs raise errors of many kinds.
        raise SnapshotRefused(f"{where}: no program ({error}); publish the snapshot again") from error
    return Program(loaded)


def read_program(path: Path) -> Program:
    """Loads a program file. Raises SnapshotRefused."""
    return load_program(read_whole(path, MOST_PROGRAM_BYTES), str(path))


def _archive(entries: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in entries.items():
            # ZipInfo's default date, 1980, keeps the time of writing out of the bytes.
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


def _plain_graph(data: bytes) -> bytes:
    graph = json.loads(data)
    # These entries serve symbolic shapes, which program_export.py refuses.
    graph["guards_code"], graph["range_constraints"] = [], {}
    for node in graph["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    return json.dumps(graph, sort_keys=True, separators=(",", ":")).encode()


def _check(archive: zipfile.ZipFile, where: str) -> None:
    entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise SnapshotRefused(f"{where}: holds an entry twice, which no program of ours does")
    for name, info in entries.items():
        known = name in (_GRAPH, _EXAMPLES, *_WEIGHTS, *_PLAIN) or (
            name.startswith(("data/weights/weight_", "data/constants/tensor_"))
        )
        if not known or info.compress_type != zipfile.ZIP_STORED:
            raise SnapshotRefused(f"{where}: holds {name!r}, which no program of ours does")
    if entries[_EXAMPLES].file_size:
        raise SnapshotRefused(f"{where}: holds pickled example inputs; programs hold none")
    for name in _WEIGHTS:
        for tensor, meta in json.loads(archive.read(entries[name]))["config"].items():
            if meta["use_pickle"] or not meta["path_name"].startswith(("weight_", "tensor_")):
                raise SnapshotRefused(f"{where}: holds {tensor} pickled; programs hold raw tensors")
    graph = json.loads(archive.read(entries[_GRAPH]))
    if graph["guards_code"] or graph["range_constraints"]:
        raise SnapshotRefused(f"{where}: holds guards or symbolic shapes; programs have fixed shapes")
    for node in graph["graph_module"]["graph"]["nodes"]:
        if not _computes(node["target"]):
            raise SnapshotRefused(f"{where}: calls {node['target']}, which is no tensor operator")
        if node["metadata"]:
            raise SnapshotRefused(f"{where}: holds metadata of the code that made it; programs hold none")
    for call in graph["graph_module"]["module_call_graph"]:
        signature = call["signature"] or {}
        for tree in (signature[name] for name in ("in_spec", "out_spec") if name in signature):
            if not _plain_tree(json.loads(tree)[1]):
                raise SnapshotRefused(f"{where}: takes or gives more than tuples, lists and dicts: {tree}")
    for key, value in _members(graph["graph_module"]):
        if key in _CODE_KEYS:
            raise SnapshotRefused(f"{where}: holds {key}; programs have fixed shapes")
        # Names become part of the Python code that torch generates from the graph.
        names = value if key == "forward_arg_names" else [value] if key == "name" else []
        for name in names:
            if not (name is None or isinstance(name, dict) or name.isidentifier()):
                raise SnapshotRefused(f"{where}: holds the name {name!r}; programs have plain names")


def _check_tensors(module: GraphModule, where: str) -> None:
    """Raises SnapshotRefused where a stored tensor has another shape or dtype than the graph declares."""
    for node in module.graph.nodes:
        if node.op != "get_attr":
            continue
        tensor = attrgetter(str(node.target))(module)
        declared = node.meta.get("val")
        if not isinstance(declared, Tensor) or (tensor.shape, tensor.dtype) != (
            declared.shape,
            declared.dtype,
        ):
            raise SnapshotRefused(
                f"{where}: {node.target} is {list(tensor.shape)} {tensor.dtype}, its graph declares"
                f" {list(declared.shape) if isinstance(declared, Tensor) else declared}; publish the snapshot again"
            )


def _computes(target: str) -> bool:
    """Whether a graph may call the target: the full name of an allowed operator on tensors."""
    match = _TARGET.fullmatch(target)
    if match is None:
        return False
    operator, overload = match.groups()
    if _TRUSTING.search(operator):
        return False
    return f"aten::{operator}{'' if overload == 'default' else f'.{overload}'}" in _OPERATORS


def _plain_tree(tree: Mapping[str, Any]) -> bool:
    context = json.loads(tree["context"]) if tree["context"] else None
    names = context is None or (isinstance(context, list) and all(isinstance(key, str) for key in context))
    return tree["type"] in _TREES and names and all(map(_plain_tree, tree["children_spec"]))


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields keys and values of all nested objects."""
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, dict):
            yield from inner.items()
            stack.extend(inner.values())
        elif isinstance(inner, list):
            stack.extend(inner)
