"""Dates and times of day written as text, as seconds since 1970."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meshfold.model.types import Int64s

Bools = npt.NDArray[np.bool_]

# The form of dates that messages recommend.
EXAMPLE = "2020-01-31T13:45:00Z"

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)"
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?"
)
# An offset may be followed by the name of its zone: "+0000 UTC", "Z[UTC]", "GMT+0000 (Coordinated Universal Time)".
_ZONE = (
    r"(?:\s*(?:z|utc|gmt|(?:utc|gmt)?(?P<sign>[+-])(?P<zone_hour>\d{2})(?::?(?P<zone_minute>\d{2}))?)"
    r"(?:\s*(?:\[[^\]]*\]|\([^)]*\)|utc|gmt))?)?"
)
_TIME = rf"(?:(?:\s*,\s*|\s*t\s*|\s+(?:at\s+)?){_CLOCK}{_ZONE})?"
_DAY_OR_MONTH_FIRST = rf"(?P<first>\d{{1,2}})[-/.](?P<next>\d{{1,2}})[-/.](?P<year>\d{{4}}){_TIME}"
_FORMS = tuple(
    rf"(?i)^\s*{form}\s*$"
    for form in (
        # 2020-01-31, 2020/1/31 13:45, 2020-01-31T13:45:00.123Z, 2020-01-31 13:45:00 UTC
        rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){_TIME}",
        # 20200131T134500Z
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})t(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})"
        rf"(?:[.,](?P<fraction>\d{{1,9}}))?{_ZONE}",
        # 1/31/2020 1:45 PM, 31.01.2020
        _DAY_OR_MONTH_FIRST,
        # Fri, 31 Jan 2020 13:45:00 GMT, 31-Jan-2020
        rf"{_WEEKDAY}?(?P<day>\d{{1,2}})[-\s]{_MONTH}[-\s,]\s*(?P<year>\d{{4}}){_TIME}",
        # January 31, 2020
        rf"{_WEEKDAY}?{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}}){_TIME}",
        # Fri Jan 31 13:45:00 2020, Fri Jan 31 13:45:00 +0000 2020
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_CLOCK}{_ZONE}\s+(?P<year>\d{{4}})",
    )
)

# The name of a zone behind a time of day: PST, CEST, Europe/Berlin, (Pacific Standard Time).
_NAMED_ZONE = re.compile(
    r"(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:\s*[ap]\.?m\b\.?)?)\s*"
    r"[\[(]?(?P<name>[a-z]+(?:[ _/+-][a-z]+)*(?:[+-]?\d{1,2}(?![\d:]))?[a-z]*)[\])]?(?=\s|$)",
    re.IGNORECASE,
)
# Longest text, in characters, that is searched for a zone.
_LONGEST = 100


@dataclass(frozen=True, eq=False)
class Dates:
    """n texts as dates.

    seconds: [n] int64 since 1970-01-01 UTC. nanoseconds: [n] int64, 0 to 999,999,999, to be added. known: [n] bool -
    whether the text has a known form. real: [n] bool - whether the date exists. first, next: [n] int64 - the first two
    numbers of a text such as 1/31/2020, from which the caller must find their order; else 0.
    """

    seconds: Int64s
    nanoseconds: Int64s
    known: Bools
    real: Bools
    first: Int64s
    next: Int64s


def dates_of(texts: pa.ChunkedArray, day_first: bool = False) -> Dates:
    """Parses texts: [n] strings without nulls. day_first: read 1/2/2020 as 1 February. No zone means UTC."""
    n = len(texts)
    seconds, nanoseconds, first, following = (np.zeros(n, np.int64) for _ in range(4))
    known, real = np.zeros(n, bool), np.zeros(n, bool)
    rest = np.arange(n)
    for form in _FORMS:
        if len(rest) == 0:
            break
        parts = pc.extract_regex(texts.take(pa.array(rest)), form)
        matched = np.asarray(parts.is_valid().to_numpy(), bool)
        rows, rest = rest[matched], rest[~matched]
        if len(rows) == 0:
            continue
        groups = _Groups(parts.filter(pa.array(matched)))
        if form == _FORMS[2]:
            first[rows], following[rows] = groups.number("first"), groups.number("next")
            day, month = ("first", "next") if day_first else ("next", "first")
        else:
            day, month = "day", "month"
        seconds[rows], real[rows] = groups.seconds(day, month)
        nanoseconds[rows] = groups.nanoseconds()
        known[rows] = True
    return Dates(seconds, nanoseconds, known, real, first, following)


def named_zone(text: str) -> str | None:
    """The name of a zone that keeps the text from being a date, or None: without the name, the text is a date."""
    found = _NAMED_ZONE.search(text[:_LONGEST])
    if found is None:
        return None
    rest = text[: found.end("clock")] + text[found.end() :]
    known = dates_of(pa.chunked_array([[rest]], pa.large_string())).known[0]
    return found["name"] if known else None


class _Groups:
    """The values of a form's groups, for texts that all have the form."""

    def __init__(self, parts: pa.ChunkedArray) -> None:
        self._parts = parts
        self._names = {parts.type.field(i).name for i in range(parts.type.num_fields)}

    def number(self, name: str, absent: int = 0) -> Int64s:
        if name not in self._names:
            return np.full(len(self._parts), absent, np.int64)
        texts = self._text(name)
        numbers = pc.if_else(pc.equal(texts, ""), str(absent), texts).cast(pa.int64())
        return np.asarray(numbers.to_numpy(), np.int64)

    def nanoseconds(self) -> Int64s:
        digits = pc.utf8_rpad(self._text("fraction"), 9, "0")
        return np.asarray(digits.cast(pa.int64()).to_numpy(), np.int64)

    def seconds(self, day: str, month: str) -> tuple[Int64s, Bools]:
        """(Seconds since 1970, whether the date and the time of day exist)."""
        months = self._month(month)
        days = self.number(day)
        good = (months >= 1) & (months <= 12)
        since = (self.number("year") - 1970) * 12 + np.where(good, months, 1) - 1
        start, end = (
            (since + ahead).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
            for ahead in (0, 1)
        )
        good &= (days >= 1) & (days <= end - start)
        hour, minute, second = (self.number(name) for name in ("hour", "minute", "second"))
        half = self._text("half")
        halved = np.asarray(pc.not_equal(half, "").to_numpy(), bool)
        afternoon = np.asarray(pc.equal(pc.utf8_lower(half), "p").to_numpy(), bool)
        good &= np.where(halved, (hour >= 1) & (hour <= 12), hour <= 23) & (minute <= 59) & (second <= 59)
        hour = np.where(halved, hour % 12 + 12 * afternoon, hour)
        zone_hour, zone_minute = self.number("zone_hour"), self.number("zone_minute")
        good &= (zone_hour <= 15) & (zone_minute <= 59)
        west = np.asarray(pc.equal(self._text("sign"), "-").to_numpy(), bool)
        offset = np.where(west, -1, 1) * (zone_hour * 3600 + zone_minute * 60)
        return (start + days - 1) * 86_400 + hour * 3600 + minute * 60 + second - offset, good

    def _month(self, name: str) -> Int64s:
        texts = self._text(name)
        if not len(texts) or not texts[0].as_py()[0].isalpha():
            return self.number(name)
        short = pc.utf8_slice_codeunits(pc.utf8_lower(texts), 0, 3)
        return np.asarray(pc.index_in(short, value_set=pa.array(_MONTHS)).to_numpy(), np.int64) + 1

    def _text(self, name: str) -> pa.ChunkedArray:
        """The group's texts; empty where a text lacks the group."""
        if name not in self._names:
            return pa.chunked_array([pa.array([""] * len(self._parts), pa.string())])
        return pc.struct_field(self._parts, name).fill_null("")
