"""Codecs between a caller's id strings and the catalog's ids, exact in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshfold.compat.mapped.errors import Misfit
from meshfold.model.schema import nearest

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_DECIMAL = re.compile(r"-?[1-9]\d{0,18}|0")
_BASE36 = re.compile(r"-?[1-9a-z][0-9a-z]{0,12}|0")
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
NAMES = ("decimal", "base36", "prefix:TEXT", "base36:TEXT", "strip:TEXT")


@dataclass(frozen=True)
class Codec:
    """A codec of ids. name: its name in a mapping. decode: from the caller's string to the catalog's id; raises
    ValueError with the expected form. encode: the inverse. has_integers: whether the catalog's ids are integers."""

    name: str
    decode: Callable[[str], int | str]
    encode: Callable[[int], str] | Callable[[str], str]
    has_integers: bool

    def decode_all(self, ids: Sequence[str]) -> list[int | str]:
        return [self.decode(each) for each in ids]


def codec_of(name: str) -> Codec:
    """The codec of a name. Raises Misfit for an unknown one.

    `decimal`: "12" is 12. `base36`: "c" is 12. `prefix:vid_`: "vid_12" is 12. `base36:v-`: "v-c" is 12. `strip:vid_`:
    "vid_x" is "x".
    """
    kind, colon, prefix = name.partition(":")
    match kind, bool(colon and prefix):
        case ("decimal", False) | ("prefix", True):
            return _integers(name, prefix, _DECIMAL, 10, str)
        case ("base36", _):
            return _integers(name, prefix, _BASE36, 36, _base36)
        case ("strip", True):
            return _stripped(name, prefix)
    raise Misfit(f"{name!r} is no codec of ids{nearest(name, NAMES)}; codecs: {', '.join(NAMES)}")


def _integers(
    name: str, prefix: str, pattern: re.Pattern[str], base: int, encode: Callable[[int], str]
) -> Codec:
    length = len(prefix)

    def decode(text: str) -> int:
        rest = text[length:]
        if text.startswith(prefix) and pattern.fullmatch(rest):
            number = int(rest, base)
            if _LEAST <= number <= _MOST:
                return number
        raise ValueError(
            f"must be {prefix!r} and an integer in base {base}"
            if prefix
            else f"must be an integer in base {base}"
        )

    return Codec(name, decode, lambda number: prefix + encode(number), True)


def _stripped(name: str, prefix: str) -> Codec:
    def decode(text: str) -> str:
        if not text.startswith(prefix) or text == prefix:
            raise ValueError(f"must begin with {prefix!r}")
        return text.removeprefix(prefix)

    return Codec(name, decode, lambda text: prefix + text, False)


def _base36(number: int) -> str:
    sign, number = ("-", -number) if number < 0 else ("", number)
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return sign + (digits or "0")
