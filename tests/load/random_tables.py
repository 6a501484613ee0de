"""Random tables of items, and random Arrow types that hold their values."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Values = list[Any]
SEPARATOR = "|"
_PIECES = (
    *'ab"",\n\r\\\'; \t',
    *(
        "\r\n",
        '""',
        "é",
        "\U0001f600",
        "e\u0301",
        "\u2028",
        "NA",
        "null",
        "nan",
        "0",
        "-1.5",
        "1e3",
        "true",
        "#",
        "=",
        "/",
    ),
    *("Comedy", "Science Fiction", "x" * 300),
)
EXACT_BELOW = 2**53


@dataclass(frozen=True)
class Field:
    """kind: of the schema, or id or vector. values: one a row, None where it is missing; "" too."""

    kind: str
    values: Values
    separator: str | None = None


@dataclass(frozen=True)
class Table:
    fields: dict[str, Field]
    rows: int

    def part(self, start: int, end: int) -> Table:
        cut = {name: Field(f.kind, f.values[start:end], f.separator) for name, f in self.fields.items()}
        return Table(cut, end - start)


def make_table(rng: random.Random, lists: bool) -> Table:
    """lists: whether columns may hold lists, as CSV cannot."""
    rows = rng.choice((1, 2, 3, 7, 25))
    lacking = rng.choice((0.0, 0.2, 0.9, 1.0))
    fields = {"item_id": Field("id", _ids(rng, rows))}
    for place in range(rng.randint(1, 5)):
        kind = rng.choice(("category", "categories", "integer", "integers", "number", "text"))
        make = {"integer": _integers, "integers": _integers, "number": _numbers}.get(kind, _strings)
        one = make(rng)
        missing = [None, ""] if make is _strings else [None]
        values: Values
        if kind.endswith("s") and kind != "text":
            separator = SEPARATOR if not lists or rng.random() < 0.3 else None
            sizes = [rng.choice((0, 1, 2, 5)) for _ in range(rows)]
            values = [None if rng.random() < lacking / 2 else [one() for _ in range(size)] for size in sizes]
            if separator:
                values = [
                    None if row is None else [v for v in row if SEPARATOR not in str(v)] for row in values
                ]
            fields[f"f{place}"] = Field(kind, values, separator)
        else:
            values = [rng.choice(missing) if rng.random() < lacking else one() for _ in range(rows)]
            fields[f"f{place}"] = Field(kind, values)
    if lists and rng.random() < 0.3:
        size = rng.randint(1, 4)
        fields["vector"] = Field(
            "vector", [[rng.randint(-8, 8) / 4 for _ in range(size)] for _ in range(rows)]
        )
    return Table(fields, rows)


def _ids(rng: random.Random, rows: int) -> Values:
    top = rng.choice((100, 10**6, 2**40, 2**63 - 1))
    low = -top if rng.random() < 0.2 else 0
    ids: set[int] = set()
    while len(ids) < rows:
        ids.add(rng.randint(low, top))
    return rng.sample(sorted(ids), rows)


def _integers(rng: random.Random) -> Callable[[], int]:
    low, high = rng.choice(
        (
            (0, 3),
            (1900, 2030),
            (-100, 100),
            (-(2**31), 2**31),
            (-(2**63), 2**63 - 1),
            (EXACT_BELOW - 2, EXACT_BELOW + 2),
        )
    )
    return lambda: rng.randint(low, high)


def _numbers(rng: random.Random) -> Callable[[], float]:
    makers: tuple[Callable[[], float], ...] = (
        lambda: float(rng.randint(-5, 5)),
        lambda: rng.randint(-40, 40) / 4,
        rng.random,
        lambda: rng.uniform(-1e300, 1e300),
        lambda: rng.choice((0.0, -0.0, 1e-320, 5e307, float("inf"), float("-inf"), 2.0**60)),
    )
    return rng.choice(makers)


def _strings(rng: random.Random) -> Callable[[], str]:
    words = ["".join(rng.choices(_PIECES, k=rng.randint(1, 4))) for _ in range(rng.choice((1, 3, 10)))]
    plain = rng.random() < 0.3
    return lambda: rng.choice(("Comedy", "Drama", "Noir") if plain else words)


def held_as(field: Field) -> tuple[str, Values]:
    """(string, integer, float, strings, integers or floats, the values as a column holds them)."""
    if field.separator:
        joined = [None if row is None else field.separator.join(map(str, row)) for row in field.values]
        return "string", joined
    name = {"id": "integer", "category": "string", "text": "string", "number": "float"}.get(
        field.kind, field.kind
    )
    return {"categories": "strings", "vector": "floats"}.get(name, name), field.values


# --- Parquet by pyarrow: every type that holds the values.

_STRINGS = (
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string()),
)  # fmt: skip
_WHOLE = (
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.decimal128(38, 0), pa.decimal256(40, 2), pa.float16(), pa.float32(), pa.float64(),
    pa.dictionary(pa.int16(), pa.int64()),
)  # fmt: skip
_FLOATS = (pa.float64(), pa.float32(), pa.float16())
_LISTS = (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)


def array(rng: random.Random, name: str, values: Values) -> pa.Array:
    """The values in a type that holds them exactly, or, for large integers, in a float type that may not."""
    if all(value is None for value in values) and rng.random() < 0.5:
        return pa.nulls(len(values), rng.choice((pa.null(), pa.float64(), pa.string())))
    flat = name.rstrip("s")
    held = [v for row in values for v in row or []] if name.endswith("s") else values
    kind = rng.choice(_fitting(flat, held))
    if name.endswith("s"):
        sizes = {None if row is None else len(row) for row in values}
        if len(sizes) == 1 and None not in sizes and 0 not in sizes and rng.random() < 0.5:
            return pa.array(values, pa.list_(kind, sizes.pop()))
        lists = rng.choice(_LISTS)(kind)
        return pa.array(values, lists)
    return pa.array(values, kind)


def _fitting(name: str, values: Values) -> Sequence[pa.DataType]:
    if name == "string":
        return _STRINGS
    given = [value for value in values if value is not None]
    return [kind for kind in (_WHOLE if name == "integer" else _FLOATS) if _holds(kind, given)]


def _holds(kind: pa.DataType, values: Values) -> bool:
    try:
        held = pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError):
        return False
    return (
        pa.types.is_float64(kind) or held.cast(pa.float64()).to_pylist() == values
        if pa.types.is_floating(kind)
        else True
    )
