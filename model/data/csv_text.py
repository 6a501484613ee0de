"""CSV files as UTF-8 text in blocks of whole rows: decompressed, decoded, and with checked quotes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meshfold.model.errors import InvalidData
from meshfold.model.types import Int64s

BLOCK_BYTES = 4 << 20
# Limit of a row: a longer one has an unclosed quote, or the file is no table.
MAX_ROW_BYTES = 64 << 20
_BUFFER_BYTES, _FIRST_BYTES = 1 << 20, 1 << 16
_QUOTE, _LF, _CR = 34, 10, 13
# Bytes allowed before an opening quote and after a closing one: a comma, an end of line, the other quote of a pair.
_BESIDE_QUOTES = np.zeros(256, bool)
_BESIDE_QUOTES[[44, _LF, _CR, _QUOTE]] = True
_REMEDY = 'quote the cell and double each quote inside it, as in "12"" record"'

_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path: _arrow_stream(path, "zstd"),
    b"\x04\x22\x4d\x18": lambda path: _arrow_stream(path, "lz4"),
}
_NO_CSV = {
    b"PK\x03\x04": "a zip archive or a spreadsheet, not CSV; unpack it, or save the sheet as CSV",
    b"PAR1": "a Parquet file; end its name in .parquet",
    b"\xd0\xcf\x11\xe0": "a spreadsheet, not CSV; save the sheet as CSV",
}
# Byte order marks. The mark of UTF-32 begins with that of UTF-16, so it is compared first.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Bytes = npt.NDArray[np.uint8]


class BadRow(Exception):
    """A row that cannot be read. row: its number in its block, from 1; 0 for the header."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def open_text(path: Path) -> io.BufferedReader | _Recoded:
    """The file as a stream of UTF-8 without byte order mark. Raises InvalidData for a file of another format."""
    with path.open("rb") as file:
        head = file.read(8)
    for magic, description in _NO_CSV.items():
        if head.startswith(magic):
            raise InvalidData(f"{path}: is {description}")
    opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), io.FileIO)
    with closing(io.BufferedReader(opener(path))) as stream:
        head = stream.read(4)
    stream = io.BufferedReader(opener(path), _BUFFER_BYTES)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return _Recoded(io.TextIOWrapper(stream, encoding, newline=""))
    # UTF-16 without a mark: a header begins with an ASCII letter, so that the zero byte beside it gives the order.
    zeros = [byte == 0 for byte in head[:2]]
    if zeros == [False, True] or zeros == [True, False]:
        return _Recoded(io.TextIOWrapper(stream, "utf-16-le" if zeros[1] else "utf-16-be", newline=""))
    if head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    return stream


def blocks(stream: io.BufferedReader | _Recoded, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yields blocks of whole rows of about block_bytes each, more where a row is longer.

    Raises BadRow at the first quote against RFC 4180, at a quote without an end, and at an end of line of another kind
    than the header's.
    """
    buffered, ended, lone_cr_ends = b"", False, None
    while not ended:
        read = stream.read(block_bytes)
        ended = not read
        buffered += read
        if not buffered:
            return
        data = np.frombuffer(buffered, np.uint8)
        quotes = np.flatnonzero(data == _QUOTE) if b'"' in buffered else np.empty(0, np.int64)
        if len(quotes):
            _check_quotes(data, quotes, ended)
        if lone_cr_ends is None:
            lone_cr_ends = _lone_cr_ends(data, quotes)
        if lone_cr_ends is not None and b"\r" in buffered:
            _check_line_ends(data, quotes, lone_cr_ends)
        end = len(buffered) if ended else _last_row_end(buffered, data, quotes, _CR if lone_cr_ends else _LF)
        if end:
            yield buffered[:end]
            buffered = buffered[end:]
        if len(buffered) > MAX_ROW_BYTES:
            raise BadRow(
                1, f"has more than {MAX_ROW_BYTES >> 20} MiB; close the quote of its cell, or split the row"
            )


def header_end(block: bytes) -> int:
    """The end of the first row in the first block of a file, blank lines before it included."""
    data = np.frombuffer(block, np.uint8)
    start = len(block) - len(block.lstrip(b"\r\n"))
    ends = _first_row_ends(data, np.flatnonzero(data == _QUOTE))
    later = ends[ends > start]
    end = int(later[0]) + 1 if len(later) else len(block)
    while end < len(block) and block[end] in (_LF, _CR) and block[end - 1] == _CR:
        end += 1
    return end


def row_at(block: bytes, place: int) -> int:
    """The number, from 1, of the row with the byte at the place. Blank lines do not count."""
    data = np.frombuffer(block, np.uint8)[: place + 1]
    ends = _row_ends(data[:-1], np.flatnonzero(data[:-1] == _QUOTE))
    return 1 + int((np.diff(ends, prepend=-1) > 1).sum())


def _arrow_stream(path: Path, codec: str) -> Any:
    return pa.CompressedInputStream(pa.OSFile(str(path)), codec)


class _Recoded(io.RawIOBase):
    """A stream of decoded text as UTF-8 bytes."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text

    def read(self, size: int = -1, /) -> bytes:
        return self._text.read(size).encode()

    def close(self) -> None:
        self._text.close()
        super().close()


def _check_quotes(data: Bytes, quotes: Int64s, ended: bool) -> None:
    """Raises BadRow for a misplaced quote. Quotes open and close in turn; a doubled quote closes and opens again."""
    opens, closes = quotes[0::2], quotes[1::2]
    before = _BESIDE_QUOTES[data[opens - 1]]
    if opens[0] == 0:
        before[0] = True
    behind = _BESIDE_QUOTES[data[np.minimum(closes + 1, len(data) - 1)]]
    bad_opens, bad_closes = opens[~before], closes[~behind]
    if len(bad_opens) and not (len(bad_closes) and bad_closes[0] < bad_opens[0]):
        raise _bad(data, int(bad_opens[0]), "a quote inside an unquoted cell", _REMEDY)
    if len(bad_closes):
        raise _bad(data, int(bad_closes[0]), "text after the closing quote of a cell", _REMEDY)
    if ended and len(quotes) % 2:
        raise _bad(data, int(quotes[-1]), "a quote that is never closed", _REMEDY)


def _check_line_ends(data: Bytes, quotes: Int64s, lone_cr_ends: bool) -> None:
    """Raises BadRow for an unquoted end of line of another kind: a cell that needs quotes."""
    if lone_cr_ends:
        stray, name = np.flatnonzero(data == _LF), "line feed"
    else:
        returns, name = np.flatnonzero(data == _CR), "carriage return"
        followed = data[np.minimum(returns + 1, len(data) - 1)]
        stray = returns[(followed != _LF) & (followed != _CR)]
    stray = stray[np.searchsorted(quotes, stray) % 2 == 0]
    if len(stray):
        raise _bad(data, int(stray[0]), f"a {name} inside an unquoted cell", "quote the cell")


def _bad(data: Bytes, place: int, fault: str, remedy: str) -> BadRow:
    return BadRow(row_at(data.tobytes(), place), f"{fault}, at {_line(data, place)}; {remedy}")


def _line(data: Bytes, place: int) -> str:
    """An excerpt of the line at the place."""
    start = place - min(place, 40)
    breaks = np.flatnonzero(data[start:place] == _LF)
    start = start + int(breaks[-1]) + 1 if len(breaks) else start
    text = data[start : place + 20].tobytes().decode(errors="ignore")
    return repr(text.split("\n")[0].rstrip("\r"))


def _lone_cr_ends(data: Bytes, quotes: Int64s) -> bool | None:
    """Whether lines end in a carriage return alone, by the first line; None until enough bytes are read."""
    ends = _first_row_ends(data, quotes)
    if not len(ends):
        return None
    behind = data[ends[0] :]
    other = np.flatnonzero(behind != _CR)
    if not len(other):
        return None
    return bool(behind[0] == _CR and behind[other[0]] != _LF)


def _first_row_ends(data: Bytes, quotes: Int64s) -> Int64s:
    """The ends of the first rows: within _FIRST_BYTES, or within all data where those hold blank lines alone."""
    ends = _row_ends(data[:_FIRST_BYTES], quotes)
    return ends if len(ends) and ends[-1] >= len(ends) else _row_ends(data, quotes)


def _row_ends(data: Bytes, quotes: Int64s) -> Int64s:
    """The places of line feeds and carriage returns outside quotes."""
    ends = np.flatnonzero((data == _LF) | (data == _CR))
    return ends[np.searchsorted(quotes, ends) % 2 == 0] if len(quotes) else ends


def _last_row_end(buffered: bytes, data: Bytes, quotes: Int64s, mark: int) -> int:
    """The end of the last whole row, 0 without one. A final carriage return may be half of an end of line."""
    if not len(quotes):
        return buffered.rfind(bytes([mark]), 0, len(buffered) - (mark == _CR)) + 1
    ends = np.flatnonzero(data[: len(buffered) - (mark == _CR)] == mark)
    ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(ends[-1]) + 1 if len(ends) else 0
