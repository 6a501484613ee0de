"""Checks of a snapshot's tensors before kernels use their numbers as addresses.

Kernels, gathers and numpy use positions, rows, codes and offsets as addresses without checks, and selection needs
scores without NaN. A damaged or forged snapshot may contain any number, so each table is read once when a version is
first opened. Tables are read in parts, without a full copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import ITEMS, WORDS, below, count
from meshfold.model.data.catalog import number_keys
from meshfold.model.errors import SnapshotRefused
from meshfold.model.filter.bloom import MOST_HASHES
from meshfold.model.schema import Field, FieldKind, IdKind, Schema

# In a shape: any length.
ANY = -1
# Limit of scales: far above those of a build, and far below an overflow of float32 scores of 4,096 dimensions.
LARGEST_SCALE = 1e20
# Entries compared at a time, and bytes of strings decoded at a time.
_AT_A_TIME = 1 << 20
_FLOATS, _BYTES, _CODES = (torch.float32,), (torch.uint8,), (torch.int8,)
_POSITIONS, _INTEGERS = (torch.int32,), (torch.int64,)
_COLUMNS = (torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class TensorFile:
    """Checks of one mapped file. Methods raise SnapshotRefused that names file, tensor and first wrong place."""

    path: Path
    tensors: Mapping[str, Tensor]

    def take(self, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> Tensor:
        """The tensor of that name, of that shape and one of the dtypes. shape: ANY allows any length."""
        tensor = self.tensors.get(name)
        if tensor is None or len(tensor.shape) != len(shape) or tensor.dtype not in dtypes:
            self._differs(name, shape, dtypes, tensor)
        if any(expected not in (ANY, actual) for expected, actual in zip(shape, tensor.shape, strict=True)):
            self._differs(name, shape, dtypes, tensor)
        if tensor.numel() and tensor.data_ptr() % tensor.element_size():
            self.refuse(name, "does not begin at a multiple of its element size")
        return tensor

    def within(self, name: str, tensor: Tensor, low: int, high: int) -> None:
        """Checks tensor: [...] integers, each from low to high."""
        if not tensor.numel():
            return
        least, most = (int(bound) for bound in torch.aminmax(tensor))
        if least < low or most > high:
            self._first(name, (tensor < low) | (tensor > high), tensor, f"between {low:,} and {high:,}")

    def scales(self, name: str, tensor: Tensor) -> None:
        """Checks tensor: [...] float32, each from 0 to LARGEST_SCALE and not NaN."""
        if not tensor.numel():
            return
        least, most = torch.aminmax(tensor)
        if not (least >= 0 and most <= LARGEST_SCALE):
            wrong = ~((tensor >= 0) & (tensor <= LARGEST_SCALE))
            self._first(name, wrong, tensor, f"a number between 0 and {LARGEST_SCALE:g}")

    def ascending(self, name: str, tensor: Tensor, strictly: bool = False) -> None:
        """Checks tensor: [n] integers, each at least the one before it, or more with `strictly`."""
        for start in range(0, tensor.numel() - 1, _AT_A_TIME):
            before, after = tensor[start:][:_AT_A_TIME], tensor[start + 1 :][:_AT_A_TIME]
            wrong = after <= before[: after.numel()] if strictly else after < before[: after.numel()]
            if wrong.any():
                more = "more than" if strictly else "at least"
                self._first(name, wrong, after, f"{more} the one before it", start + 1)

    def offsets(self, name: str, offsets: Tensor, end: int) -> None:
        """Checks offsets: [n + 1] int64 that ascend from 0 to end."""
        if not offsets.numel():
            self.refuse(name, "is empty; expected at least one offset, 0")
        for place, expected in ((0, 0), (offsets.numel() - 1, end)):
            if int(offsets[place]) != expected:
                self.refuse(name, f"holds {int(offsets[place]):,} at {place:,}; expected {expected:,}")
        self.ascending(name, offsets)

    def permutation(self, name: str, tensor: Tensor) -> None:
        """Checks tensor: [N] integers, each from 0 to N - 1 once."""
        n = tensor.numel()
        self.within(name, tensor, 0, n - 1)
        seen = torch.zeros(n, dtype=torch.bool)
        seen[tensor] = True
        if not seen.all():
            self.refuse(name, f"lacks {int(seen.byte().argmin()):,}; expected each number below {n:,} once")

    def strings(self, name: str, size: int) -> int:
        """Checks `size` strings of UTF-8 in {name}.offsets and {name}.bytes; returns their number."""
        offsets = self.take(f"{name}.offsets", (size if size == ANY else size + 1,), _INTEGERS)
        data = self.take(f"{name}.bytes", (ANY,), _BYTES)
        self.offsets(f"{name}.offsets", offsets, data.numel())
        places, text = offsets.numpy(), data.numpy()
        start = 0
        while start < len(places) - 1:
            stop = int(np.searchsorted(places, places[start] + _AT_A_TIME, side="right")) - 1
            stop = max(stop, start + 1)
            part = text[places[start] : places[stop]]
            wrong = _not_utf8(part, places[start:stop] - places[start])
            if wrong is not None:
                at = int(np.searchsorted(places, places[start] + wrong, side="right")) - 1
                self.refuse(f"{name}.bytes", f"holds bytes that are not UTF-8 in string {at:,}")
            start = stop
        return len(places) - 1

    def refuse(self, name: str, why: str) -> NoReturn:
        raise SnapshotRefused(f"{self.path}: {name} {why}; publish the snapshot again")

    def _first(self, name: str, wrong: Tensor, tensor: Tensor, expected: str, start: int = 0) -> NoReturn:
        place = int(wrong.flatten().byte().argmax())
        actual = tensor.flatten()[place].item()
        self.refuse(name, f"holds {actual:,} at {start + place:,}; expected {expected}")

    def _differs(
        self, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], tensor: Tensor | None
    ) -> NoReturn:
        actual = "nothing" if tensor is None else f"{list(tensor.shape)} {_name(tensor.dtype)}"
        lengths = ", ".join("any" if length == ANY else str(length) for length in shape)
        kinds = " or ".join(map(_name, dtypes))
        raise SnapshotRefused(
            f"{self.path}: the schema needs {name} [{lengths}] {kinds}, the file has {actual};"
            " publish the snapshot again"
        )


def check_index(file: TensorFile, items: int, dimension: int, clusters: int) -> None:
    """Checks the tensors of an index. Codes and residuals may have any values. Raises SnapshotRefused."""
    for name in ("codes", "residuals"):
        file.take(name, (items, dimension), _CODES)
    file.take("centroids", (clusters, dimension), _CODES)
    file.scales("units", file.take("units", (items,), _FLOATS))
    for name in ("centroid_units", "centroid_spreads"):
        file.scales(name, file.take(name, (clusters,), _FLOATS))
    file.offsets("offsets", file.take("offsets", (clusters + 1,), _INTEGERS), items)
    file.permutation("rows", file.take("rows", (items,), _POSITIONS))


def check_items(file: TensorFile, rows: Tensor, schema: Schema) -> None:
    """Checks items' ids, order and texts. rows: [N] int32, a permutation. Raises SnapshotRefused."""
    n = rows.numel()
    file.ascending("item_ids", file.take("item_ids", (n,), _INTEGERS), strictly=True)
    if schema.ids is IdKind.STRINGS:
        file.permutation("id.rows", file.take("id.rows", (n,), _POSITIONS))
        file.strings("id", n)
    positions = file.take("positions", (n,), _INTEGERS)
    file.within("positions", positions, 0, n - 1)
    wrong = rows[positions] != torch.arange(n, dtype=rows.dtype)
    if wrong.any():
        file._first("positions", wrong, positions, "the position of the item of that row")
    file.scales("popularity", file.take("popularity", (n,), _FLOATS))
    file.permutation("popular", file.take("popular", (n,), _POSITIONS))
    for field in schema.shown:
        file.strings(f"text.{field.name}", n)


def check_filter(file: TensorFile, items: int, schema: Schema) -> None:
    """Checks columns, vocabularies, posting lists, and the layout of the signature. Raises SnapshotRefused."""
    for place, field in enumerate(schema.filterable):
        _check_column(file, items, place, field)
    _check_lists(file, items, len(schema.filterable))


def check_signature(file: TensorFile, items: int, rows: int) -> None:
    """Checks the signature's shape, and that bits beyond the last item are 0. rows: number of rows of the layout."""
    signature = file.take("signature", (count(items), rows, WORDS), _INTEGERS)
    used_bits = items - (count(items) - 1) * ITEMS - 64 * torch.arange(WORDS)
    beyond = signature[-1] & ~below(used_bits.clamp(0, 64))
    if beyond.any():
        row = int(beyond.any(1).byte().argmax())
        file.refuse("signature", f"has bits beyond item {items - 1:,} in row {row:,}")


def _check_column(file: TensorFile, items: int, place: int, field: Field) -> None:
    column_name, offsets_name = f"column.{field.name}", f"offsets.{field.name}"
    kinds = _INTEGERS if field.kind is FieldKind.NUMBER else _COLUMNS
    column = file.take(column_name, (ANY if field.kind.many else items,), kinds)
    offsets = file.take(offsets_name, (items + 1 if field.kind.many else 0,), _INTEGERS)
    if field.kind.many:
        file.offsets(offsets_name, offsets, column.numel())
    if field.kind is FieldKind.NUMBER:
        low, high = number_keys(np.array([-np.inf, np.inf])).tolist()
        file.within(column_name, column, low, high)
        for name in (f"plane.{field.name}", f"bloom.{field.name}"):
            if name in file.tensors:
                file.refuse(name, "has no meaning for a field of numbers")
        return
    planes = file.take(f"plane.{field.name}", (ANY,), _INTEGERS)
    file.ascending(f"plane.{field.name}", planes, strictly=True)
    if f"bloom.{field.name}" in file.tensors:
        bloom = file.take(f"bloom.{field.name}", (2,), _INTEGERS)
        file.within(f"bloom.{field.name}", bloom[:1], 1, 2**31 - 1)
        file.within(f"bloom.{field.name}", bloom[1:], 1, MOST_HASHES)
    if field.kind.holds_strings:
        words = file.strings(f"vocabulary.{field.name}", ANY)
        # Items without a value have code 0, even with an empty vocabulary.
        file.within(column_name, column, 0, max(words, 0 if field.kind.many else 1) - 1)
        file.within(f"plane.{field.name}", planes, 0, words - 1)
        if not words:
            _check_absence(file, place)


def _check_absence(file: TensorFile, place: int) -> None:
    """Checks that the signature marks no item as having the field."""
    signature = file.take("signature", (ANY, ANY, WORDS), _INTEGERS)
    if place >= signature.shape[1] or signature[:, place].any():
        file.refuse("signature", f"marks in row {place:,} items with a field whose vocabulary is empty")


def _check_lists(file: TensorFile, items: int, fields: int) -> None:
    values = file.take("lists.values", (ANY,), _INTEGERS)
    positions = file.take("lists.positions", (ANY,), _POSITIONS)
    offsets = file.take("lists.offsets", (values.numel() + 1,), _INTEGERS)
    first = file.take("lists.fields", (fields + 1,), _INTEGERS)
    file.offsets("lists.offsets", offsets, positions.numel())
    file.offsets("lists.fields", first, values.numel())
    file.within("lists.positions", positions, 0, items - 1)
    for start, stop in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
        file.ascending("lists.values", values[start:stop], strictly=True)
    # The first position of a list may be less than the last of the list before it.
    begins = offsets[1:-1]
    for start in range(0, positions.numel() - 1, _AT_A_TIME):
        part = positions[start : start + _AT_A_TIME + 1]
        wrong = part[1:] <= part[:-1]
        inside = begins[(begins > start) & (begins < start + part.numel())]
        wrong[inside - start - 1] = False
        if wrong.any():
            file._first("lists.positions", wrong, part[1:], "more than the one before it", start + 1)


def _not_utf8(
    data: np.ndarray[tuple[int], np.dtype[np.uint8]], starts: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> int | None:
    """The place of a byte that breaks UTF-8 (with surrogates), or None. starts: the place of each string."""
    try:
        text = data.tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        return error.start
    if len(text) < len(data):
        # The bytes are valid as a whole; a string that begins inside a character is not.
        begins = starts[starts < len(data)]
        within = np.flatnonzero(data[begins] & 0xC0 == 0x80)
        if len(within):
            return int(begins[within[0]])
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
