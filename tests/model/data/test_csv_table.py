import bz2
import csv
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from meshfold.model.data import csv_text
from meshfold.model.data.table_files import TableFiles
from meshfold.model.errors import InvalidData

BLOCKS = (1, 2, 3, 7, 64, csv_text.BLOCK_BYTES)


def _read(path: Path, data: bytes | str) -> list[list[str]]:
    """The cells of columns a and b."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    read = TableFiles.open(path).read(["a", "b"])
    columns = [[cell or "" for cell in read[name].strings().to_pylist()] for name in "ab"]
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.fixture(params=BLOCKS)
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", request.param)
    return int(request.param)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("rows", "row", "message"),
    [
        ('1,"x\n2,y\n3,"z"\n', 1, "text after the closing quote of a cell, at '3,\"z"),
        ('1,x\n2,"y" z\n', 2, "text after the closing quote"),
        ('1,x\n2,""y"\n', 2, "text after the closing quote"),
        ('1,x\n"2"z,y\n', 2, "text after the closing quote"),
        ('1,x\n2,"say \\"hi\\""\n', 2, "text after the closing quote"),
        ('1,x\n2,"a\\""\n3,"b"\n', 2, "text after the closing quote"),
        ('1,x\n2,"a\\""\n3,b\n', 2, "a quote that is never closed"),
        ('1,x\n2,y\n3,"z\n', 3, "a quote that is never closed"),
        ('1,x\n2,12" record\n', 2, "a quote inside an unquoted cell"),
        ('1,x\n2, "y"\n', 2, "a quote inside an unquoted cell"),
        ('1,x\n\n2,"a\nb"\n3,y"\n', 3, "a quote inside an unquoted cell"),
        ("1,x\n2,y\rz\n3,w\n", 2, "a carriage return inside an unquoted cell"),
        ("1,x\n2,y,z\n", 2, "Expected 2 columns, got 3"),
        ('1,x\n"2,y"\n', 2, "Expected 2 columns, got 1"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: str, row: int, message: str) -> None:
    for end in ("\n", "\r\n"):
        text = "a,b\n" + rows
        with pytest.raises(InvalidData) as fault:
            _read(tmp_path / "t.csv", text.replace("\n", end))
        assert f"t.csv: cannot be read: row {row}: {message}" in str(fault.value)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_cells_are_equal_to_the_bytes_of_the_file(tmp_path: Path, end: str) -> None:
    rows = [
        ["a", "b"],
        ["1", "two\r\nlines"],
        ["2", "\r\n"],
        ["", "\r"],
        ["\n\n", 'say "hi"'],
        ['"', ","],
        ["é\U0001f600\u2028", " spaced "],
        ["", "x" * 200],
        ["\0", "a\0b\ufeff"],
        ["last", ""],
    ]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    assert _read(tmp_path / "t.csv", text.getvalue()) == rows[1:]
    assert _read(tmp_path / "t.csv", text.getvalue().removesuffix(end)) == rows[1:]


@pytest.mark.usefixtures("block_bytes")
def test_lines_that_end_in_carriage_returns_hold_no_line_feed(tmp_path: Path) -> None:
    assert _read(tmp_path / "t.csv", 'a,b\r1,"x\n"\r2,y\r') == [["1", "x\n"], ["2", "y"]]
    for cell in ("x\ny", "x\n", "\nx"):
        with pytest.raises(InvalidData, match="row 2: a line feed inside an unquoted cell"):
            _read(tmp_path / "t.csv", f"a,b\r1,w\r2,{cell}\r")


def test_rows_may_end_unlike_the_header(tmp_path: Path) -> None:
    assert _read(tmp_path / "t.csv", "a,b\n1,x\r\n2,y\n") == [["1", "x"], ["2", "y"]]
    assert _read(tmp_path / "t.csv", "a,b\r\n1,x\n2,y\r\n") == [["1", "x"], ["2", "y"]]


def test_a_cell_may_be_longer_than_a_block(tmp_path: Path) -> None:
    for cell in ("x" * (csv_text.BLOCK_BYTES + 5), "x\r\n" * (csv_text.BLOCK_BYTES // 2)):
        assert _read(tmp_path / "t.csv", f'a,b\n1,"{cell}"\n2,y\n') == [["1", cell], ["2", "y"]]


def test_a_row_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_text, "MAX_ROW_BYTES", 1 << 20)
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 1 << 16)
    with pytest.raises(
        InvalidData, match=r"t\.csv: cannot be read: row 2: has more than 1 MiB; close the quote"
    ):
        _read(tmp_path / "t.csv", 'a,b\n1,x\n2,"y\n' + "3,z\n" * (1 << 19))


def test_rows_count_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 100)
    good = "".join(f"{i},x\n" for i in range(1000))
    for bad in ('1000,"x"y\n', "1000\n", "1000,\xff\n"):
        with pytest.raises(InvalidData, match=r"t\.csv: cannot be read: row 1001: "):
            _read(tmp_path / "t.csv", ("a,b\n" + good + bad + good).encode("latin-1"))
    # The first bad row is named, whatever is wrong with later ones.
    with pytest.raises(InvalidData, match=r"row 1001: Expected 2 columns"):
        _read(tmp_path / "t.csv", "a,b\n" + good + "1000\n" + good + '1,"x"y\n')


PACKS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "two gzip members": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
    "lz4": lambda data: _lz4(data),
}


def _lz4(data: bytes) -> bytes:
    held = pa.BufferOutputStream()
    with pa.CompressedOutputStream(held, "lz4") as stream:
        stream.write(data)
    return bytes(held.getvalue())


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_compressed_files_are_read_by_what_they_are(
    tmp_path: Path, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    data = b"a,b\n1,x\n" * 1000
    expected = [row.split(",") for row in data.decode().split()][1:]
    assert _read(tmp_path / f"t{suffix}", pack(data)) == expected
    with pytest.raises(InvalidData, match=rf"t{suffix}: cannot be read: "):
        _read(tmp_path / f"t{suffix}", pack(data)[:-9])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.usefixtures("block_bytes")
def test_encodings_are_told_by_their_marks(tmp_path: Path, encoding: str) -> None:
    text = 'a,b\n1,"é\U0001f600\r\n"\n'
    assert _read(tmp_path / "t.csv", text.encode(encoding)) == [["1", "é\U0001f600\r\n"]]
    assert _read(tmp_path / "t.csv", gzip.compress(text.encode(encoding))) == [["1", "é\U0001f600\r\n"]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04rest", "is a zip archive or a spreadsheet, not CSV"),
        (b"PAR1rest", "is a Parquet file; end its name in .parquet"),
        ("a,b\n1,x\n".encode("utf-16")[:-1], "cannot be read: .*utf-16"),
        ("é,b\n1,x\n".encode("latin-1"), "cannot be read: the header is not UTF-8"),
        (b"", "cannot be read: the file is empty"),
        (b"\n\r\n", "cannot be read: the file is empty"),
        (b'a,b"\n1,x\n', "cannot be read: the header: a quote inside an unquoted cell"),
        (b'"a,b\n1,x\n', "cannot be read: the header: a quote that is never closed"),
    ],
)
def test_what_is_no_csv_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidData, match=rf"t\.csv: {message}"):
        _read(tmp_path / "t.csv", data)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("header", ["a,b", '"a","b"', "\n\r\na,b", "b,a"])
def test_headers(tmp_path: Path, header: str) -> None:
    expected = ["y", "x"] if header == "b,a" else ["x", "y"]
    assert _read(tmp_path / "t.csv", f"{header}\n\nx,y\n\n") == [expected]
    assert _read(tmp_path / "t.csv", header) == []


def test_a_column_that_nobody_asks_for_may_be_of_any_encoding(tmp_path: Path) -> None:
    assert _read(tmp_path / "t.csv", b"a,b,c\n1,x,\xe9\n") == [["1", "x"]]


def test_names_may_hold_line_ends_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"a\nb","say ""x"""\n1,2\n')
    read = TableFiles.open(tmp_path / "t.csv").read(["a\nb", 'say "x"'])
    assert [column.integers().to_pylist() for column in read.values()] == [[1], [2]]
