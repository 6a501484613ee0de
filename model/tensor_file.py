"""Files of named tensors in the safetensors format: written in chunks, read by mapping.

The library's own writer needs all tensors in memory at once. The format is a JSON header and raw bytes, so that this
one can write streams of chunks. Every tensor starts at a multiple of 64 bytes, a cache line.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from meshfold.model.errors import SnapshotRefused

ALIGNMENT = 64
_PADDING = "padding."
_NAMES = {
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float32": "F32",
    "float64": "F64",
}
_DTYPES: dict[str, torch.dtype] = {written: getattr(torch, name) for name, written in _NAMES.items()}
_METADATA = "__metadata__"
_READ_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class Streamed:
    """A tensor that is written chunk by chunk along its first dimension."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    chunks: Iterable[npt.NDArray[Any]]


@dataclass(frozen=True)
class FileMark:
    """The size and hash of a written file, to detect changes."""

    size_bytes: int
    sha256: str


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any] | Streamed]) -> FileMark:
    """Writes and syncs a new file. Raises ValueError where the chunks do not fit their tensor's shape."""
    streams = {name: t if isinstance(t, Streamed) else _whole(t) for name, t in tensors.items()}
    header, paddings = _header(streams)
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def put(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        put(header)
        for (name, tensor), padding in zip(streams.items(), paddings, strict=True):
            rows = 0
            for chunk in tensor.chunks:
                if chunk.dtype != np.dtype(tensor.dtype) or chunk.shape[1:] != tensor.shape[1:]:
                    raise ValueError(f"{name}: chunk {chunk.shape} {chunk.dtype} does not fit {tensor.shape}")
                rows += chunk.shape[0]
                put(np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<")).tobytes())
            if rows != tensor.shape[0]:
                raise ValueError(f"{name}: got {rows} rows, expected {tensor.shape[0]}")
            put(bytes(padding))
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return FileMark(size, digest.hexdigest())


def write_bytes(path: Path, data: bytes) -> FileMark:
    """Writes and syncs a new file."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileMark(len(data), hashlib.sha256(data).hexdigest())


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading. It never blocks, for pipes, sockets and devices are refused.

    Raises SnapshotRefused for other kinds of files and where the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SnapshotRefused(f"{path}: no regular file; publish the snapshot again")
    return os.fdopen(descriptor, "rb")


def read_whole(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file. Raises SnapshotRefused for more than most_bytes, and where it cannot be read."""
    with open_regular(path) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(data) > most_bytes:
        raise SnapshotRefused(f"{path}: more than {most_bytes:,} bytes; publish the snapshot again")
    return data


def mark_of(path: Path) -> FileMark:
    """The size and hash of a file. Raises SnapshotRefused where it cannot be read."""
    digest = hashlib.sha256()
    size = 0
    with open_regular(path) as file:
        try:
            while block := file.read(_READ_BYTES):
                digest.update(block)
                size += len(block)
        except OSError as error:
            raise _unreadable(path, error) from error
    return FileMark(size, digest.hexdigest())


def check_mark(path: Path, mark: FileMark) -> None:
    """Raises SnapshotRefused where the file's size or hash differs from its mark. The size is compared first."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size != mark.size_bytes or mark_of(path) != mark:
        raise SnapshotRefused(f"{path}: was changed after it was published; publish the snapshot again")


def map_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, mapped from disk. Raises SnapshotRefused for an invalid file."""
    try:
        # safe_open checks the header: names, types, shapes and places.
        with safe_open(path, framework="pt"), open_regular(path) as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start, size = file.tell(), os.fstat(file.fileno()).st_size
        # The library's get_tensor is not used: each call leaks two Python integers.
        data = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)[start:]
        return {
            name: data[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).view(entry["shape"])
            for name, entry in header.items()
            if name != _METADATA and not name.startswith(_PADDING)
        }
    # torch raises RuntimeError for misaligned tensors, which safe_open accepts.
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
        raise SnapshotRefused(f"{path}: no safetensors file ({error}); publish the snapshot again") from error


def _unreadable(path: Path, error: OSError) -> SnapshotRefused:
    return SnapshotRefused(f"{path}: {error.strerror}; publish the snapshot again")


def gathered(source: npt.NDArray[Any], order: npt.NDArray[np.int64], rows: int = 65_536) -> Streamed:
    """source[order] as a stream of chunks of `rows` rows, which limits memory."""

    def chunks() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, len(order), rows):
            yield source[order[start : start + rows]]

    return Streamed(source.dtype, (len(order), *source.shape[1:]), chunks())


def _whole(array: npt.NDArray[Any]) -> Streamed:
    return Streamed(array.dtype, array.shape, [array])


def _header(streams: Mapping[str, Streamed]) -> tuple[bytes, list[int]]:
    entries: dict[str, Any] = {}
    paddings = []
    end = 0
    for name, tensor in streams.items():
        size = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        entries[name] = _entry(_NAMES[np.dtype(tensor.dtype).name], tensor.shape, end, end + size)
        end += size
        paddings.append(-end % ALIGNMENT)
        # The format forbids gaps, so that padding is a tensor of its own.
        if paddings[-1]:
            entries[f"{_PADDING}{name}"] = _entry("U8", (paddings[-1],), end, end + paddings[-1])
            end += paddings[-1]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, paddings


def _entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
