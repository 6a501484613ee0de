"""Random tables, written as people write them, read back: equal, or refused by the name of a file.

    python tests/load/fuzz_data.py
    python tests/load/fuzz_data.py --only 1234

A number stands for one table: of items, by a writer in a layout of files, or of cells, as CSV text of random characters
beside what Python's csv reads of it. Writers that are not installed are left out and named. Last line: BENCH {...}.
Exit status 1 where one was read wrong, refused without a cause, or ended in another error.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

# Appended: folders here have names of packages.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from meshfold.model.data import csv_text
from meshfold.model.data.catalog import Catalog, numbers_of_keys
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.tables import TableSource
from meshfold.model.errors import InvalidData
from tests.load.random_tables import Field, Table, make_table
from tests.load.table_writers import CSV, INSTALLED, MISSING, PARQUET

EQUAL, REFUSED, WRONG, TRACEBACK = "equal", "refused", "wrong", "tracebacks"
# Every CELLS_EVERY-th table is of cells.
CELLS_EVERY = 4
# What a refusal may say of tables that the fuzzer did not spoil: a writer made floats of large integers.
_ALTERED = "written as a float"
# And of ids that a writer made floats with an exponent of, such as 1.700000000000000000e+01.
_EXPONENT = "column item_id, row [0-9]+: expected an integer id, got '[^']*e[+][0-9]+', which has an exponent"
# The smallest that a float type may have altered.
EXACT_IN_HALF = 2**11
_BLOCK_BYTES = (1, 2, 3, 5, 8, 13, 64, csv_text.BLOCK_BYTES)


def outcome(number: int, writers: Sequence[str] = INSTALLED) -> tuple[str, str, str]:
    """(what became of the table of a number, what it was, what was said of it). writers: to choose from."""
    rng = random.Random(number)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        csv_text.BLOCK_BYTES, block_bytes = rng.choice(_BLOCK_BYTES), csv_text.BLOCK_BYTES
        try:
            told, said = _of_items(rng, folder, writers) if number % CELLS_EVERY else _of_cells(rng, folder)
        finally:
            csv_text.BLOCK_BYTES = block_bytes
        if said.startswith("refused: ") and f"{folder}/" not in said:
            return WRONG, told, f"no file is named: {said}"
        return said.partition(":")[0], told, said


def _of_cells(rng: random.Random, folder: Path) -> tuple[str, str]:
    """Random text that begins with a header of two columns."""
    alphabet = rng.choice(('",\n', '"",,\r\nab', '",\n\r\\ab ', 'abcé,\n"'))
    text = "a,b\n" + "".join(rng.choices(alphabet, k=rng.randint(0, 30)))
    if rng.random() < 0.5:
        rows = [["".join(rng.choices('ab",\n\r é', k=rng.randint(0, 6))) for _ in "ab"] for _ in range(5)]
        held = io.StringIO(newline="")
        csv.writer(held, lineterminator=rng.choice(("\n", "\r\n"))).writerows([["a", "b"], *rows])
        text, at = held.getvalue(), rng.randrange(4, len(held.getvalue()))
        text = rng.choice((text, text[:at] + rng.choice('",\n\r\\a') + text[at:], text[:at] + text[at + 1 :]))
    file = folder / "cells.csv"
    file.write_bytes(text.encode())
    told = f"cells {text!r} in blocks of {csv_text.BLOCK_BYTES}"
    expected: Any
    try:
        expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row][1:]
    except csv.Error as fault:
        expected = str(fault)
    try:
        read = TableFiles.open(file).read(["a", "b"])
    except InvalidData as fault:
        spoiled = isinstance(expected, str) or any(len(row) != 2 for row in expected) or _stray(text)
        return told, f"refused: {fault}" if spoiled else f"{WRONG}: refused: {fault}"
    except Exception:
        return told, f"{TRACEBACK}: {traceback.format_exc()}"
    columns = [[cell or "" for cell in read[name].strings().to_pylist()] for name in "ab"]
    found = [list(row) for row in zip(*columns, strict=True)]
    return told, EQUAL if found == expected else f"{WRONG}: {found}, expected {expected}"


def _stray(text: str) -> bool:
    """Whether a cell without quotes holds a quote or a carriage return, which Python's csv allows."""
    cell = r'(?:"(?:[^"]|"")*"|[^",\r\n]*)'
    return not re.fullmatch(rf"(?:{cell}(?:,|\r*\n|\r+\Z|\Z))*", text)


def _of_items(rng: random.Random, folder: Path, writers: Sequence[str]) -> tuple[str, str]:
    known = {"parquet": PARQUET, "csv": CSV}
    form, name = rng.choice(
        [(form, name) for form, those in known.items() for name in writers if name in those]
    )
    table = make_table(rng, lists=form == "parquet")
    layout = rng.choice(("file", "parts", "nested", "hive"))
    told = f"{name}, {form}, {layout}, {table}"
    try:
        files = _layout(rng, table, layout, form)
        for path, part in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            known[form][name](rng, part, folder / path)
        (folder / "schema.toml").write_text(
            _schema(table, "items" if layout != "file" else next(iter(files)))
        )
    except Exception:
        return told, f"{TRACEBACK}: of the writer: {traceback.format_exc()}"
    try:
        found = _rows(TableSource(folder / "schema.toml").catalog(), table)
    except InvalidData as fault:
        return told, f"refused: {fault}" if _spoiled(
            str(fault), table, name
        ) else f"{WRONG}: refused: {fault}"
    except Exception:
        return told, f"{TRACEBACK}: {traceback.format_exc()}"
    expected = _expected(table)
    if found == expected:
        return told, EQUAL
    bad = next((item for item in expected if found.get(item) != expected[item]), None)
    return told, f"{WRONG}: item {bad}: {found.get(bad)}, expected {expected.get(bad)}"  # type: ignore[arg-type]


def _layout(rng: random.Random, table: Table, layout: str, form: str) -> dict[str, Table]:
    suffix = (
        rng.choice((".csv", ".CSV", ".csv.gz")) if form == "csv" else rng.choice((".parquet", ".pq", ".PARQ"))
    )
    if layout == "file":
        return {f"items{suffix}": table}
    categories = [name for name, field in table.fields.items() if field.kind == "category"]
    if layout == "hive" and categories:
        key, parts = rng.choice(categories), {}
        values = table.fields[key].values
        for value in sorted({value or "" for value in values}):
            rows = [row for row, held in enumerate(values) if (held or "") == value]
            fields = {
                name: Field(f.kind, [f.values[row] for row in rows], f.separator)
                for name, f in table.fields.items()
                if name != key
            }
            given = quote(value, safe=" ") if value else "__HIVE_DEFAULT_PARTITION__"
            if len(given) < 200:
                parts[f"items/{key}={given}/p0{suffix}"] = Table(fields, len(rows))
            else:
                return {f"items/p0{suffix}": table}
        return parts
    cuts = sorted(rng.choices(range(table.rows + 1), k=rng.randint(0, 3)))
    ends = [0, *cuts, table.rows]
    place = "items/deeper" if layout == "nested" else "items"
    return {
        f"{place}/p{i}{suffix}": table.part(a, b)
        for i, (a, b) in enumerate(zip(ends, ends[1:], strict=False))
    }


def _schema(table: Table, source: str) -> str:
    lines = ['surface = "s"', "[items]", f'source = "{source}"', 'id = "item_id"', 'ids = "integers"']
    if "vector" in table.fields:
        lines.append('vector = "vector"')
    for name, field in table.fields.items():
        if field.kind not in ("id", "vector"):
            lines += [f"[fields.{name}]", f'kind = "{field.kind}"']
            lines += [f'separator = "{field.separator}"'] * bool(field.separator)
    return "\n".join([*lines, "[tasks.watch]", ""])


def _rows(catalog: Catalog, table: Table) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {item: {} for item in catalog.item_ids.tolist()}
    vectors = np.concatenate(list(catalog.vectors())).tolist() if "vector" in table.fields else []
    for place, row in enumerate(rows.values()):
        for name, column in catalog.columns.items():
            values = column.values[column.offsets[place] : column.offsets[place + 1]]
            given: list[Any] = (numbers_of_keys(values) if column.kind == "number" else values).tolist()
            row[name] = (
                [column.vocabulary[code] for code in given] if column.vocabulary is not None else given
            )
        row |= {name: texts[place] for name, texts in catalog.texts.items()}
        if vectors:
            row["vector"] = vectors[place]
    return rows


def _expected(table: Table) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for place, item in enumerate(table.fields["item_id"].values):
        row = rows[item] = {}
        for name, field in table.fields.items():
            value = field.values[place]
            if field.kind == "text":
                row[name] = value or ""
            elif field.kind == "vector":
                row[name] = value
            elif field.kind != "id":
                row[name] = sorted(
                    {v for v in (value if isinstance(value, list) else [value]) if v not in (None, "")}
                )
    return rows


def _spoiled(said: str, table: Table, writer: str) -> bool:
    """Whether the writer gave cause to refuse the table."""
    large = any(
        isinstance(number, int) and abs(number) >= EXACT_IN_HALF
        for field in table.fields.values()
        for value in field.values
        for number in (value if isinstance(value, list) else [value])
    )
    # Some writers leave other line ends than their own without quotes.
    if (large and _ALTERED in said) or "inside an unquoted cell" in said:
        return True
    if re.search(_EXPONENT, said):
        return True
    backslashed = writer == "csv" and any('"' in str(f.values) for f in table.fields.values())
    return backslashed and ("quote" in said or "Expected" in said)


def main() -> None:
    parser = argparse.ArgumentParser(description="Random tables: read back equal, or refused by name.")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="tables (default: 2000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first (default: 0)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one")
    parser.add_argument("--verbose", action="store_true", help="show what was refused")
    args = parser.parse_args()
    if args.only is not None:
        what, told, said = outcome(args.only)
        return print(f"{told}\n{what}: {said}")
    counts: Counter[str] = Counter()
    for number in range(args.first, args.first + args.count):
        what, told, said = outcome(number)
        counts[what] += 1
        if args.verbose and what == REFUSED:
            print(f"{number}: {told.split('Table(')[0]}: {said}")
        if what not in (EQUAL, REFUSED):
            print(
                f"{number}: {told[:3000]}\n{said}\nrepeat: python {__file__} --only {number}\n",
                file=sys.stderr,
            )
    print(f"writers: {', '.join(INSTALLED)}" + (f"; not installed: {', '.join(MISSING)}" if MISSING else ""))
    print(f"{counts[EQUAL]} equal, {counts[REFUSED]} refused by name")
    bad = {what: counts[what] for what in (WRONG, TRACEBACK)}
    print(f"BENCH {json.dumps({'name': 'fuzz_data', 'tables': counts.total(), **bad})}")
    sys.exit(1 if any(bad.values()) else 0)


if __name__ == "__main__":
    main()
