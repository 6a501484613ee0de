"""Files of named tensors in the safetensors format: written in chunks, read by mapping.

The library's own writer wants every tensor in memory at once; the format is a JSON header and raw bytes, so
that a stream of chunks can be written as it comes. Every tensor starts at a multiple of 64
bytes, a cache line.
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
    """The size and hash by which a written file is recognised."""

    size_bytes: int
    sha256: str


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any] | Streamed]) -> FileMark:
    """Writes and syncs a new file. Raises ValueError where chunks do not add up to their shape."""
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
                raise ValueError(f"{name}: {rows} rows came, {tensor.shape[0]} were announced")
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
    """A file to read. Never waits: a pipe, a socket or a device is refused.

    Raises SnapshotRefused where it is none or cannot be opened.
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
    """Raises SnapshotRefused where it is no regular file, larger than that, or cannot be read."""
    with open_regular(path) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(data) > most_bytes:
        raise SnapshotRefused(f"{path}: more than {most_bytes:,} bytes; publish the snapshot again")
    return data


def mark_of(path: Path) -> FileMark:
    """Reads a whole file. Raises SnapshotRefused where it cannot be read."""
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
    """Raises SnapshotRefused unless the file is the one that was written. One of another size is not read."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size != mark.size_bytes or mark_of(path) != mark:
        raise SnapshotRefused(f"{path}: not the bytes that were published; publish the snapshot again")


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, mapped from disk. Raises SnapshotRefused where it is no such file."""
    try:
        # Opening checks the header: names, types, shapes and places.
        with safe_open(path, framework="pt"), open_regular(path) as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start, size = file.tell(), os.fstat(file.fileno()).st_size
        # Not by the library's get_tensor: each call leaves two Python integers in memory until the process ends.
        data = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)[start:]
        return {
            name: data[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).view(entry["shape"])
            for name, entry in header.items()
            if name != _METADATA and not name.startswith(_PADDING)
        }
    # torch raises errors of its own for misaligned tensors, which the format's reader accepts.
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
        raise SnapshotRefused(f"{path}: no safetensors file ({error}); publish the snapshot again") from error


def _unreadable(path: Path, error: OSError) -> SnapshotRefused:
    return SnapshotRefused(f"{path}: {error.strerror}; publish the snapshot again")


def gathered(source: npt.NDArray[Any], order: npt.NDArray[np.int64], rows: int = 65_536) -> Streamed:
    """source[order] without ever holding it whole."""

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
        # The format allows no gaps, so that a gap is a tensor of its own.
        if paddings[-1]:
            entries[f"{_PADDING}{name}"] = _entry("U8", (paddings[-1],), end, end + paddings[-1])
            end += paddings[-1]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, paddings


def _entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
