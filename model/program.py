"""Float modules as programs: exported once, run as published, without the code that made them.

A program is an archive of torch.export, less all that would be unpickled or evaluated, or that differs from
run to run: example inputs, guards, stack traces. What is left is the graph as JSON and raw tensors. Reading
one refuses any archive that holds more.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from meshfold.model.errors import InvalidData, SnapshotRefused

_GRAPH = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_WEIGHTS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN = ("archive_format", "archive_version", "byteorder", ".data/version")
# Operators that compute; a graph that names anything else is refused before it is built.
_TARGETS = ("torch.ops.aten.", "_operator.")
# Where the serialised graph keeps expressions that would be parsed as code.
_CODE_KEYS = frozenset({"expr_str", "as_sym_int", "as_sym_float", "as_sym_bool", "as_graph", "as_operator"})


class Program(nn.Module):
    """Runs what was exported: inference only, of the shapes it was exported for."""

    def __init__(self, exported: nn.Module) -> None:
        super().__init__()
        self._exported = exported.requires_grad_(False)

    def forward(self, *inputs: Any) -> Tensor:
        out: Tensor = self._exported(*inputs)
        return out

    def train(self, mode: bool = True) -> Self:
        """Nothing changes: a program knows one mode."""
        return self


def export_program(module: nn.Module, example: tuple[Any, ...]) -> bytes:
    """The program of a module for inputs of the shapes of `example`; equal modules give equal bytes.

    Raises InvalidData where the module cannot be exported, naming what stands in the way.
    """
    try:
        with torch.no_grad():
            exported = torch.export.export(module.eval(), example)
        written = io.BytesIO()
        torch.export.save(exported, written)
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        raise InvalidData(
            f"{type(module).__name__} cannot be exported: {first_line}; torch.export needs a forward without"
            " control flow that depends on values"
        ) from error
    kept = io.BytesIO()
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(kept, "w") as target:
        for name in sorted(source.namelist()):
            inner = name.partition("/")[2]
            if inner == ".data/serialization_id":
                continue
            data = source.read(name)
            if inner == _EXAMPLES:
                data = b""
            elif inner == _GRAPH:
                data = _plain_graph(data)
            # ZipInfo's own date, 1980: the time of writing is no part of a program.
            target.writestr(zipfile.ZipInfo(name), data)
    program = kept.getvalue()
    load_program(program, type(module).__name__)
    return program


def load_program(data: bytes, where: str) -> nn.Module:
    """A module that runs the program. Raises SnapshotRefused where it is none, or holds more than one may."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(archive, where)
        loaded: nn.Module = torch.export.load(io.BytesIO(data)).module()
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise SnapshotRefused(f"{where}: no program ({error}); publish the snapshot again") from error
    return Program(loaded)


def read_program(path: Path) -> nn.Module:
    """Raises SnapshotRefused."""
    try:
        return load_program(path.read_bytes(), str(path))
    except OSError as error:
        raise SnapshotRefused(f"{path}: {error.strerror}; publish the snapshot again") from error


def _plain_graph(data: bytes) -> bytes:
    graph = json.loads(data)
    graph["guards_code"] = []
    for node in graph["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    return json.dumps(graph, sort_keys=True, separators=(",", ":")).encode()


def _check(archive: zipfile.ZipFile, where: str) -> None:
    entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
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
            if meta["use_pickle"]:
                raise SnapshotRefused(f"{where}: holds {tensor} pickled; programs hold raw tensors")
    graph = json.loads(archive.read(entries[_GRAPH]))
    if graph["guards_code"] or graph["range_constraints"]:
        raise SnapshotRefused(f"{where}: holds guards or symbolic shapes; programs have fixed shapes")
    for node in graph["graph_module"]["graph"]["nodes"]:
        if not node["target"].startswith(_TARGETS):
            raise SnapshotRefused(f"{where}: calls {node['target']}, which is no tensor operator")
    found = _CODE_KEYS.intersection(_keys(graph["graph_module"]))
    if found:
        raise SnapshotRefused(f"{where}: holds {', '.join(sorted(found))}; programs have fixed shapes")


def _keys(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, dict):
            yield from inner
            stack.extend(inner.values())
        elif isinstance(inner, list):
            stack.extend(inner)
