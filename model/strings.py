"""Lists of strings as two arrays, which can be mapped from disk like other tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from meshfold.model.types import Int64s


def pack_strings(strings: Iterable[str]) -> tuple[Int64s, npt.NDArray[np.uint8]]:
    """(offsets: [n + 1] int64, bytes: [offsets[n]] uint8 - all strings in UTF-8, back to back)."""
    texts = list(strings)
    data = "".join(texts).encode("utf-8", "surrogatepass")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    if len(data) != lengths.sum():
        # Some characters take more than one byte.
        encoded = (len(s) if s.isascii() else len(s.encode("utf-8", "surrogatepass")) for s in texts)
        lengths = np.fromiter(encoded, np.int64, len(texts))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return offsets, np.frombuffer(data, np.uint8)


def order_of(strings: Sequence[str]) -> Int64s:
    """[n] int64: the places of the strings in the order of their UTF-8 bytes; equal strings keep their order."""
    import pyarrow.compute as pc  # The serving path runs without it.

    return np.asarray(pc.sort_indices(_arrow(strings)).to_numpy(), np.int64)


def pack_at(strings: Sequence[str], places: Int64s) -> tuple[Int64s, npt.NDArray[np.uint8]]:
    """The strings at the places, in the form of pack_strings. places: [n] int64."""
    import pyarrow as pa

    _, offsets, data = _arrow(strings).take(pa.array(places)).buffers()
    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int64)[: len(places) + 1]
    return bounds, text[: bounds[-1]]


def _arrow(strings: Sequence[str]) -> Any:
    """The strings as an Arrow array of bytes, without a copy of packed ones."""
    import pyarrow as pa

    packed = strings if isinstance(strings, PackedStrings) else PackedStrings(*pack_strings(strings))
    buffers = [None, *(pa.py_buffer(part) for part in packed.parts)]
    return pa.Array.from_buffers(pa.large_binary(), len(packed), buffers)


class PackedStrings(Sequence[str]):
    """A sequence of strings over the two arrays of pack_strings; strings are decoded when read."""

    def __init__(self, offsets: Int64s, data: npt.NDArray[np.uint8]) -> None:
        self._offsets = offsets
        self._data = np.ascontiguousarray(data)

    @property
    def parts(self) -> tuple[Int64s, npt.NDArray[np.uint8]]:
        """(offsets, bytes) of pack_strings."""
        return self._offsets, self._data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        raw = self._data[self._offsets[index] : self._offsets[index + 1]]
        return raw.tobytes().decode("utf-8", "surrogatepass")

    def take(self, places: Int64s) -> tuple[str, ...]:
        """The strings at the places: [n] int64. One gather copies as many bytes for each as the longest string has."""
        starts = self._offsets[places]
        lengths = self._offsets[places + 1] - starts
        width = int(lengths.max(initial=0))
        if not width:
            return ("",) * len(places)
        # Copies near the end of the bytes begin earlier, so that they stay inside.
        firsts = np.minimum(starts, len(self._data) - width)
        # A view with an element of that width at each byte, so that one element is a string.
        windows = np.ndarray((len(self._data) - width + 1,), f"V{width}", self._data, strides=(1,))
        data = windows[firsts].tobytes()
        begins = starts - firsts + np.arange(0, width * len(places), width)
        bounds = zip(begins.tolist(), (begins + lengths).tolist(), strict=True)
        if data.isascii():
            text = data.decode("ascii")
            return tuple([text[begin:end] for begin, end in bounds])
        return tuple([data[begin:end].decode("utf-8", "surrogatepass") for begin, end in bounds])
