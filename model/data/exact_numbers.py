"""Exact conversion of table values to int64 and float64; a value that would change is an error."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# From this number on, neighbouring doubles are 2 apart: a double of 2**53 may have been 2**53 + 1.
EXACT_BELOW = 2**53
_BITS = {"halffloat": 11, "float": 24, "double": 53}
_EXPECTED_WHOLE = "an int64 number"
# Forms of floats in texts: 1995.0, 1995., 1.995e+03.
_POINT = r"^([+-]?[0-9]+)\.0*$"
_EXPONENT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,3}$"
_WHOLE = r"^[+-]?[0-9]+(\.0*)?$"
_HEX = r"[xX]"


class BadValue(Exception):
    """A value of another form than expected. place: of the first such value, from 0."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


class Altered(BadValue):
    """A whole number beyond a float's exact range, which may have been rounded from another one."""


def whole_limit(kind: pa.DataType) -> int | None:
    """The absolute value below which whole numbers are exact in a float type; None for other types."""
    bits = _BITS.get(str(kind))
    return None if bits is None else 2**bits


def int64s(values: pa.ChunkedArray, limit: int | None) -> pa.ChunkedArray:
    """Bools, whole numbers, decimals and floats as int64; nulls stay.

    limit: absolute value below which whole floats are exact. Raises BadValue at the first value that is not whole, and
    Altered at the first float at or beyond the limit.
    """
    if pa.types.is_floating(values.type):
        floats = _floats(values.fill_null(0) if values.null_count else values)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(floats) & (floats == np.rint(floats))
        if not whole.all():
            raise _misfit(values, int(np.argmin(whole)), _EXPECTED_WHOLE)
        exact = np.abs(floats) < (limit or EXACT_BELOW)
        if not exact.all():
            raise _altered(values, int(np.argmin(exact)), limit or EXACT_BELOW)
        values = values.cast(pa.float64())
    return _cast(values, pa.int64(), _EXPECTED_WHOLE)


def int64s_of_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings such as 1995, 1995.0 and 1.995e+03 as int64; nulls stay. Raises BadValue at the first other text."""
    # Arrow reads 0x1F as 31.
    if may_hold(values, "x"):
        hexadecimal = pc.match_substring_regex(values, _HEX)
        if pc.any(hexadecimal).as_py():
            raise _misfit(values, _first(hexadecimal), _EXPECTED_WHOLE)
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    digits = _without_exponents(values)
    digits = pc.replace_substring_regex(digits, _POINT, r"\1")
    try:
        whole = digits.cast(pa.int64())
    except pa.ArrowInvalid:
        # Places did not change, so the first bad text of `digits` is the first of `values`.
        raise _misfit(values, first_uncast(digits, pa.int64()), _EXPECTED_WHOLE) from None
    large = pc.or_(pc.greater_equal(whole, EXACT_BELOW), pc.less_equal(whole, -EXACT_BELOW))
    if pc.any(large).as_py():
        altered = pc.and_(large, pc.not_equal(digits, values))
        if pc.any(altered).as_py():
            raise _altered(values, _first(altered), EXACT_BELOW)
    return whole


def float64s(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bools, whole numbers, decimals, floats and strings as float64; nulls stay. Fractions are rounded.

    Raises BadValue at the first value that is no number, and at the first whole number that float64 would round.
    """
    if pa.types.is_integer(values.type):
        return _floats_of_integers(values)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    floats = _cast(values, pa.float64(), "a number")
    if not (pa.types.is_floating(values.type) or pa.types.is_null(values.type)):
        large = pc.greater_equal(pc.abs(floats), float(EXACT_BELOW))
        if pa.types.is_large_string(values.type):
            too_large = pc.and_(pc.is_inf(floats), pc.match_substring_regex(values, "[0-9]"))
            if pc.any(too_large).as_py():
                raise _misfit(values, _first(too_large), "a number of float64's range")
            # A text with an exponent was a float already.
            large = pc.and_(large, pc.match_substring_regex(values, _WHOLE))
        # Large whole numbers are rare: Python compares each exactly.
        for place in np.flatnonzero(pc.fill_null(large, False).to_numpy()).tolist():
            value = Decimal(values[place].as_py())
            if value == value.to_integral_value() and value != Decimal(floats[place].as_py()):
                raise _inexact(values, place)
    return floats


def first_uncast(values: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> int:
    """The first place whose value cannot be cast to the type. values: at least one such value."""
    start, end = 0, len(values)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            values.slice(start, middle - start).cast(kind)
        except pa.ArrowInvalid:
            end = middle
        else:
            start = middle
    return start


def may_hold(values: pa.ChunkedArray, letter: str) -> bool:
    """Whether the letter, small or capital, may occur in the strings.

    False is certain; true may come from bytes of the buffers outside the strings. Ten times faster than a regex.
    """
    buffers = (chunk.buffers()[-1] for chunk in values.chunks)
    return any(
        bool(((np.frombuffer(data, np.uint8) | 32) == ord(letter)).any())
        for data in buffers
        if data is not None
    )


def _floats_of_integers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    whole = values.fill_null(0).to_numpy()
    floats = whole.astype(np.float64)
    # float64(2**63 - 1) rounds to 2**63, which is no int64.
    top = 2.0 ** (8 * whole.dtype.itemsize - (whole.dtype.kind == "i"))
    back = np.where(floats < top, floats, 0).astype(whole.dtype)
    exact = (floats < top) & (back == whole)
    if not exact.all():
        raise _inexact(values, int(np.argmin(exact)))
    return pa.chunked_array([pa.array(floats, mask=np.asarray(values.is_null().to_numpy(), bool))])


def _without_exponents(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts of whole numbers with an exponent as plain digits; other texts stay."""
    written = pc.fill_null(pc.match_substring_regex(values, _EXPONENT), False)
    if not pc.any(written, min_count=0).as_py():
        return values
    encoded = values.filter(written).combine_chunks().dictionary_encode()
    digits = pa.array([_digits(text) for text in encoded.dictionary.to_pylist()], values.type)
    whole = pc.replace_with_mask(
        values.combine_chunks(), written.combine_chunks(), digits.take(encoded.indices)
    )
    return pa.chunked_array([whole])


def _digits(text: str) -> str:
    number = Decimal(text)
    whole = abs(number) < 10**20 and number == number.to_integral_value()
    return str(int(number)) if whole else text


def _cast(values: pa.ChunkedArray, kind: pa.DataType, expected: str) -> pa.ChunkedArray:
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        pass
    raise _misfit(values, first_uncast(values, kind), expected)


def _floats(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """[n] float64. values: without nulls."""
    return np.asarray(values.to_numpy(), np.float64)


def _first(mask: pa.ChunkedArray) -> int:
    """The first place where the mask is true. mask: true somewhere."""
    return int(np.argmax(np.asarray(pc.fill_null(mask, False).to_numpy(), bool)))


def _misfit(values: pa.ChunkedArray, place: int, expected: str) -> BadValue:
    return BadValue(place, f"expected {expected}, got {_value(values, place)!r}; mend the row")


def _altered(values: pa.ChunkedArray, place: int, limit: int) -> Altered:
    return Altered(
        place,
        f"expected {_EXPECTED_WHOLE}, got {_value(values, place)!r}, written as a float; floats from {limit} on may be"
        " rounded; write the column as int64",
    )


def _inexact(values: pa.ChunkedArray, place: int) -> BadValue:
    return BadValue(
        place,
        f"got {_value(values, place)}, which no float64 holds exactly; use kind integer, which holds int64",
    )


def _value(values: pa.ChunkedArray, place: int) -> Any:
    return values[place].as_py()
