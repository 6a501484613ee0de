"""Files of records in a folder: one that grows and closed ones, of which the oldest are deleted."""

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
# Seconds after which written records are synced to the disk.
SYNC_S = 1.0
_MOST_MESSAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class FileLimits:
    """Limits. file_bytes: bytes after which a new file is begun. bytes, age_s: of all files; the oldest are deleted."""

    file_bytes: int
    bytes: int
    age_s: float


class RecordFiles:
    """Writes records from one thread. A file is created with its first record; each server has files of its own."""

    def __init__(self, folder: Path, limits: FileLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._descriptor: int | None = None
        self._path = folder
        self._written = 0
        self._begun_s = self._synced_s = 0.0

    def append(self, record: bytes) -> None:
        """Appends a record after its length. Raises OSError, after which the file has only whole records."""
        framed = varint(len(record)) + record
        if self._descriptor is not None and self._full(len(framed)):
            self.close()
        if self._descriptor is None:
            self._begin(len(framed))
        assert self._descriptor is not None
        try:
            _write(self._descriptor, framed)
        except OSError:
            # Removes the incomplete record.
            os.ftruncate(self._descriptor, self._written)
            self.close()
            raise
        self._written += len(framed)
        self.sync(SYNC_S)

    def sync(self, after_s: float) -> None:
        """Syncs written records, unless the last sync was less than after_s seconds ago."""
        if self._descriptor is not None and time.monotonic() - self._synced_s >= after_s:
            os.fsync(self._descriptor)
            self._synced_s = time.monotonic()

    def close(self) -> None:
        """Closes the file durably. The next record begins a new one."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def expire(self) -> None:
        """Deletes files that are too old, the growing one included."""
        if self._descriptor is not None and self._full(0):
            self.close()
        self._remove_oldest(0)

    def _full(self, more_bytes: int) -> bool:
        # A file is deleted as a whole, so that a file must cover a small part of age_s.
        age_s = time.monotonic() - self._begun_s
        return self._written + more_bytes > self._limits.file_bytes or age_s > self._limits.age_s / 10

    def _begin(self, more_bytes: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_oldest(min(self._limits.file_bytes, self._limits.bytes) + more_bytes)
        now = datetime.now(UTC)
        # Readable by its owner alone, since it has users' requests.
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
        """Deletes files until there is room for another, and none is too old."""
        remove_oldest(record_files(self._folder), self._limits.bytes, self._limits.age_s, room_bytes)


def record_files(folder: Path) -> Sequence[tuple[Path, int, float]]:
    """The files of records in a folder, oldest first; see aged_files."""
    return aged_files(folder, f"{_PREFIX}*{_SUFFIX}")


def read_records(
    place: Path, on_cut: Callable[[Path, int], None] = lambda path, byte: None
) -> Iterator[pb.Recorded]:
    """The records of a file, or of all files of a folder, oldest first. An incomplete record of a killed writer ends
    its file.

    on_cut: called with such a file and the offset of its incomplete record. Raises InvalidData where there are no
    records, or a record cannot be parsed.
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
    """Reads a varint; None at the end, and where it is incomplete."""
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
