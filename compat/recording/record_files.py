"""Files of records in a folder: one that grows, the others closed, the oldest removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from meshfold.compat.aged_files import aged_files, remove_oldest
from meshfold.compat.varint import varint
from meshfold.model.errors import InvalidData
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

_PREFIX, _SUFFIX = "recorded-", ".binpb"
# What is written is on the disk after so long.
SYNC_S = 1.0
_MOST_MESSAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class FileLimits:
    """file_bytes: of one file, after which another begins. bytes, age_s: of all together; the oldest go."""

    file_bytes: int
    bytes: int
    age_s: float


class RecordFiles:
    """One thread writes. A file appears with its first record; each server begins one of its own."""

    def __init__(self, folder: Path, limits: FileLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._descriptor: int | None = None
        self._path = folder
        self._written = 0
        self._begun_s = self._synced_s = 0.0

    def append(self, record: bytes) -> None:
        """A record's bytes after their length. Raises OSError, and leaves whole records behind."""
        framed = varint(len(record)) + record
        if self._descriptor is not None and self._full(len(framed)):
            self.close()
        if self._descriptor is None:
            self._begin(len(framed))
        assert self._descriptor is not None
        try:
            _write(self._descriptor, framed)
        except OSError:
            # What follows must not stand behind half a record.
            os.ftruncate(self._descriptor, self._written)
            self.close()
            raise
        self._written += len(framed)
        self.sync(SYNC_S)

    def sync(self, after_s: float) -> None:
        """What is written is durable, unless the last sync was less than after_s ago."""
        if self._descriptor is not None and time.monotonic() - self._synced_s >= after_s:
            os.fsync(self._descriptor)
            self._synced_s = time.monotonic()

    def close(self) -> None:
        """Durably. The next record begins a file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def expire(self) -> None:
        """Removes what is too old, the file that grows included."""
        if self._descriptor is not None and self._full(0):
            self.close()
        self._remove_oldest(0)

    def _full(self, more_bytes: int) -> bool:
        # A file ages as a whole, so that files must be much younger than all may become.
        age_s = time.monotonic() - self._begun_s
        return self._written + more_bytes > self._limits.file_bytes or age_s > self._limits.age_s / 10

    def _begin(self, more_bytes: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_oldest(min(self._limits.file_bytes, self._limits.bytes) + more_bytes)
        now = datetime.now(UTC)
        # Only the owner may read what people asked for.
        self._path = self._folder / f"{_PREFIX}{now:%Y%m%dT%H%M%S%f}-{os.getpid()}{_SUFFIX}"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._written = 0
        self._begun_s = self._synced_s = time.monotonic()

    def _remove_oldest(self, room_bytes: int) -> None:
        """Until there is room for a file in the limit, and none is too old."""
        remove_oldest(record_files(self._folder), self._limits.bytes, self._limits.age_s, room_bytes)


def record_files(folder: Path) -> Sequence[tuple[Path, int, float]]:
    """The files of records in the folder, oldest first, as aged_files gives them."""
    return aged_files(folder, f"{_PREFIX}*{_SUFFIX}")


def read_records(
    place: Path, on_cut: Callable[[Path, int], None] = lambda path, byte: None
) -> Iterator[pb.Recorded]:
    """The records of a file, or of all files of a folder, oldest first. A record that a kill cut off ends its file.

    on_cut: told of such a file and the byte where its whole records end. Raises InvalidData where there are none, or
    bytes are no records.
    """
    paths = [path for path, _, _ in record_files(place)] if place.is_dir() else [place]
    if not paths:
        raise InvalidData(f"{place} holds no files of records ({_PREFIX}*{_SUFFIX})")
    for path in paths:
        try:
            with path.open("rb") as file:
                yield from _read(path, file, on_cut)
        except OSError as error:
            raise InvalidData(f"{path} cannot be read: {error.strerror}") from None


def _read(path: Path, file: BinaryIO, on_cut: Callable[[Path, int], None]) -> Iterator[pb.Recorded]:
    place = 0
    while (length := _length(file)) is not None:
        if length > _MOST_MESSAGE_BYTES:
            raise InvalidData(f"{path} holds no record at byte {place}: one of {length} bytes is too long")
        content = file.read(length)
        if len(content) < length:
            break
        try:
            yield pb.Recorded.FromString(content)
        except DecodeError:
            raise InvalidData(f"{path} holds no record at byte {place}") from None
        place = file.tell()
    if file.tell() > place:
        on_cut(path, place)


def _length(file: BinaryIO) -> int | None:
    """The varint that comes next; None at the end, and where it is cut off."""
    number = shift = 0
    while byte := file.read(1):
        number |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return number
        shift += 7
        if shift > 63:
            return number
    return None


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
