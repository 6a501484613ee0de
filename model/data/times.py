"""Times of interactions in any common unit and form, as seconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.data.catalog import number_keys, numbers_of_keys
from meshfold.model.data.date_text import EXAMPLE, Dates, dates_of, named_zone
from meshfold.model.data.exact_numbers import may_hold
from meshfold.model.data.table_column import TableColumn, is_string
from meshfold.model.errors import InvalidData
from meshfold.model.types import Float64s, Int64s

UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_PER_SECOND = np.array(list(UNITS.values()), np.int64)
# Dates between which a number has one possible unit: the ranges of different units do not overlap.
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_LOWS = int(_EARLIEST.timestamp()) * _PER_SECOND
_TOPS = int(_LATEST.timestamp()) * _PER_SECOND
# Limit of the ratio of neighbouring numbers of a counter beyond the seconds of 2100.
MAX_STEP = 10
_NUMBER = r"^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$"
_EXPECTED = f"seconds, milliseconds, microseconds or nanoseconds since 1970, or a date such as {EXAMPLE}"
_COUNTER = "where it is a counter, number its rows 1, 2, 3"
# A decimal type for exact comparison of texts; numbers with more digits are ordered as float64.
_EXACT = pa.decimal256(76, 30)


def times_of(column: TableColumn) -> Int64s | Float64s:
    """A column of n rows as [n] int64 seconds since 1970, or float64 where a time has a fraction.

    Reads numbers, timestamps of every unit, dates, and texts of them; no zone means UTC. The size of the largest number
    gives the unit of a column of numbers. Numbers that lie between 1980 and 2100 in no unit stay unchanged, and so do
    counters that grow through the ranges of several units. Different times stay different and in order, even where
    float64 is too coarse for them.

    Raises InvalidData that names the row of a value that is no time, or two rows that contradict each other.
    """
    if column.values.null_count:
        raise column.fault(
            _first(column.values.is_null()), "the time is missing; every interaction needs one"
        )
    kind = column.values.type
    if len(column.values) == 0:
        return np.empty(0, np.int64)
    if is_string(kind):
        return _of_texts(column, pc.utf8_trim_whitespace(column.strings()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _of_timestamps(column.values)
    if pa.types.is_integer(kind):
        return _of_numbers(column, np.asarray(column.integers().to_numpy(), np.int64))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _of_numbers(column, _floats(column, column.values))
    raise column.misfit("times", f"write {_EXPECTED}")


def _of_timestamps(values: pa.ChunkedArray) -> Int64s | Float64s:
    if pa.types.is_date32(values.type):
        return np.asarray(values.cast(pa.int32()).to_numpy(), np.int64) * 86_400
    unit = "ms" if pa.types.is_date64(values.type) else values.type.unit
    ticks = np.asarray(values.cast(pa.int64()).to_numpy(), np.int64)
    return _seconds(ticks, {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit])


def _of_texts(column: TableColumn, texts: pa.ChunkedArray) -> Int64s | Float64s:
    # pyarrow's own reader, tried first, is fast and reads the plainest forms of dates_of. It reads 0x1F as 31.
    whole = () if may_hold(texts, "x") else (pa.int64(),)
    for kind in (*whole, pa.timestamp("us"), pa.timestamp("us", "UTC")):
        values = _read(texts, kind)
        if values is not None and pa.types.is_timestamp(kind):
            return _of_timestamps(values)
        if values is not None:
            return _of_numbers(column, np.asarray(values.to_numpy(), np.int64))
    empty = np.asarray(pc.equal(texts, "").to_numpy(), bool)
    if empty.any():
        raise column.fault(int(np.argmax(empty)), "the time is missing; every interaction needs one")
    numeric = np.asarray(pc.match_substring_regex(texts, _NUMBER).to_numpy(), bool)
    if numeric.all():
        return _of_numbers(column, _floats(column, texts))
    dates = dates_of(texts)
    bad = ~(numeric | dates.known)
    if bad.any():
        place = int(np.argmax(bad))
        text = texts[place].as_py()
        zone = named_zone(text)
        if zone is not None:
            raise column.fault(
                place,
                f"expected Z, UTC, GMT or an offset such as -08:00, got the zone {zone!r} in {text!r}: names of zones"
                " are not read; write the column with offsets or in UTC",
            )
        raise column.fault(place, f"expected {_EXPECTED}, got {text!r}; write the column so")
    if numeric.any():
        raise _two_meanings(
            column,
            (int(np.argmax(numeric)), "a number"),
            (int(np.argmin(numeric)), "a date"),
            "write all as dates",
        )
    if _day_first(column, dates):
        dates = dates_of(texts, day_first=True)
    if not dates.real.all():
        place = int(np.argmin(dates.real))
        raise column.fault(place, f"there is no such date or time: {texts[place].as_py()!r}; mend the row")
    if not dates.nanoseconds.any():
        return dates.seconds
    return _in_order(dates.seconds, dates.nanoseconds, dates.seconds + dates.nanoseconds / 1e9)


def _read(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """The texts as the kind, None where one does not fit. The first text is tried alone, for a fast failure."""
    try:
        _without_utc(texts.slice(0, 1), kind).cast(kind)
        return _without_utc(texts, kind).cast(kind)
    except pa.ArrowInvalid:
        return None


def _without_utc(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Texts of timestamps without a final UTC or GMT, which pyarrow does not read."""
    if kind != pa.timestamp("us") or not texts[0].as_py().upper().endswith(("UTC", "GMT")):
        return texts
    return pc.replace_substring_regex(texts, r"(?i)\s*(?:utc|gmt)$", "")


def _day_first(column: TableColumn, dates: Dates) -> bool:
    """Whether texts such as 31/1/2020 begin with the day. A number above 12 in any row decides it for all rows.

    Raises InvalidData where two rows contradict each other, and where no row decides it.
    """
    day, month = dates.first > 12, dates.next > 12
    if day.any() and month.any():
        at = int(np.argmax(day)), int(np.argmax(month))
        raise _two_meanings(column, (at[0], "day first"), (at[1], "month first"), f"write dates as {EXAMPLE}")
    unclear = dates.first != dates.next
    if unclear.any() and not day.any() and not month.any():
        place = int(np.argmax(unclear))
        raise column.fault(
            place,
            f"{_shown(column, place)} may begin with the day or with the month, and no row of the column decides it; "
            f"write dates as {EXAMPLE}",
        )
    return bool(day.any())


def _floats(column: TableColumn, values: pa.ChunkedArray) -> Int64s | Float64s:
    """Floats, decimals or texts of numbers as int64 where all are whole, else as finite float64 in exact order."""
    floats = np.asarray(values.cast(pa.float64()).to_numpy(), np.float64)
    finite = np.isfinite(floats)
    if not finite.all():
        raise column.fault(int(np.argmin(finite)), "the time must be finite; mend the row")
    try:
        whole = np.asarray(values.cast(pa.int64()).to_numpy(), np.int64)
    except pa.ArrowInvalid:
        pass
    else:
        return whole
    if pa.types.is_floating(values.type):
        return floats
    try:
        exact = values.cast(_EXACT)
    except pa.ArrowInvalid:
        return floats
    ranks = pc.rank(exact, "ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    return _in_order(ranks, np.zeros(len(ranks), np.int64), floats)


def _of_numbers(column: TableColumn, numbers: Int64s | Float64s) -> Int64s | Float64s:
    """Numbers of one unit as seconds; the largest number gives the unit."""
    if len(numbers) == 0:
        return numbers
    units = np.searchsorted(_TOPS, numbers)
    largest = int(np.argmax(numbers))
    unit = int(units[largest])
    if unit == len(UNITS):
        raise column.fault(
            largest,
            f"expected {_EXPECTED}, before {_LATEST.year}, got {_shown(column, largest)}; write the column so; "
            f"{_COUNTER}",
        )
    has_unit = bool(numbers[largest] >= _LOWS[unit])
    # Distance in seconds of neighbouring numbers in the narrowest float type of the files.
    apart = float(numbers[largest]) / column.exact_below / int(_PER_SECOND[unit] if has_unit else 1)
    if pa.types.is_floating(column.values.type) and apart > 1:
        raise column.fault(
            largest,
            f"its float type has steps of {apart:.0f} s at times such as {_shown(column, largest)}; write the column as"
            " int64 or float64",
        )
    # Numbers in the range of a smaller unit, or of no unit where the largest has none, contradict the largest.
    other = (units < unit) & (numbers > 0) & ((numbers >= _LOWS[np.minimum(units, unit)]) | (not has_unit))
    if other.any():
        if _counts(numbers, numbers[other].min()):
            return numbers
        place = int(np.argmax(other))
        names = list(UNITS)
        raise _two_meanings(
            column,
            (place, names[units[place]]),
            (largest, names[unit]),
            f"write the column in one unit; {_COUNTER}",
        )
    if not has_unit or unit == 0:
        return numbers
    if numbers.dtype == np.int64:
        return _seconds(numbers.astype(np.int64, copy=False), int(_PER_SECOND[unit]))
    floats = numbers.astype(np.float64, copy=False)
    return _in_order(number_keys(floats), np.zeros(len(floats), np.int64), floats / _PER_SECOND[unit])


def _counts(numbers: Int64s | Float64s, least: float) -> bool:
    """Whether the numbers from `least` on are a counter: in order, none is more than MAX_STEP times the one before.

    The ranges of two units lie a factor of 77 apart.
    """
    ordered = np.sort(numbers[numbers >= least]).astype(np.float64)
    before, after = ordered[:-1], ordered[1:]
    return bool((after <= MAX_STEP * before)[after > _TOPS[0]].all())


def _seconds(ticks: Int64s, per_second: int) -> Int64s | Float64s:
    """Ticks as seconds. per_second: ticks of a second."""
    whole, rest = np.divmod(ticks, per_second)
    if not rest.any():
        return np.asarray(whole, np.int64)
    return _in_order(whole, rest, whole + rest / per_second)


def _in_order(major: Int64s, minor: Int64s, seconds: Float64s) -> Float64s:
    """seconds: [n] float64 in the strict order of (major, minor): [n] int64.

    Where two different times round to one float64, the later one moves to the next float64. At today's dates
    neighbouring float64 are 0.24 microseconds apart.
    """
    order = np.lexsort((minor, major))
    major, minor = major[order], minor[order]
    new = np.append(True, (major[1:] != major[:-1]) | (minor[1:] != minor[:-1])).cumsum() - 1
    keys = number_keys(seconds[order])
    kept = np.empty(len(seconds), np.float64)
    kept[order] = numbers_of_keys(np.maximum.accumulate(keys - new) + new)
    return kept


def _two_meanings(
    column: TableColumn, one: tuple[int, str], other: tuple[int, str], remedy: str
) -> InvalidData:
    """The error for two rows that contradict each other: each is its place and the meaning of its value."""
    (place, meaning), (rival, rival_meaning) = sorted((one, other))
    return column.fault(
        place,
        f"{_shown(column, place)} reads as {meaning}, but {column.row_named(rival)} holds {_shown(column, rival)}, "
        f"which reads as {rival_meaning}; {remedy}",
    )


def _shown(column: TableColumn, place: int) -> str:
    value = column.values[place].as_py()
    return repr(value) if isinstance(value, str) else str(value)


def _first(mask: pa.ChunkedArray) -> int:
    """The first place where the mask is true. mask: true somewhere."""
    return int(np.argmax(mask.to_numpy()))
