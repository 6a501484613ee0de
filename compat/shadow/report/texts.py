"""Formats numbers, times and foreign text for a report."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

from meshfold.compat.shadow.comparison import Interval
from meshfold.compat.shadow.report.words import Measure

NONE = "–"
_REPLACEMENT = "\ufffd"
# Unicode categories removed from text: control characters, and surrogates, which UTF-8 cannot encode.
_UNSHOWABLE = {"Cc", "Cs"}
# Characters that change the direction of all following text; right-to-left scripts do not need them.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LINE_ENDS = {"\u2028", "\u2029"}


def clean(text: str, most_characters: int) -> str:
    """A foreign text on one line, cut to a length, without unprintable characters."""
    cut = text[: most_characters - 1] + "…" if len(text) > most_characters else text
    if cut.isprintable():
        return cut
    return "".join(_shown(character) for character in cut)


def clean_for_terminal(text: str, most_characters: int) -> str:
    """The same as clean(), also without characters that a terminal interprets or that change the text's direction."""
    return "".join(c if c.isprintable() else _REPLACEMENT for c in clean(text, most_characters))


def _shown(character: str) -> str:
    if character in "\t\n\r" or character in _LINE_ENDS:
        return " "
    is_shown = character not in _TURNS and unicodedata.category(character) not in _UNSHOWABLE
    return character if is_shown else _REPLACEMENT


def percent(share: float, decimals: int = 1) -> str:
    """A share in percent; never 0 or 100 for other values: 0.99999 is "over 99.9%"."""
    if math.isnan(share):
        return NONE
    if math.isinf(share):
        return "∞" if share > 0 else "-∞"
    text = f"{100 * share:.{decimals}f}"
    least = 10**-decimals
    if float(text) == 0 and share != 0:
        return f"under {least:g}%" if share > 0 else f"over -{least:g}%"
    if float(text) == 100 and share < 1:
        return f"over {100 - least:g}%"
    return f"{text}%"


def number(value: float) -> str:
    """A number with four digits, and thousands in groups."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if not size:
        return "0"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1:
        return f"{value:.4g}"
    return f"{value:.1e}" if size < 0.001 else f"{value:.3f}"


def milliseconds(value: float) -> str:
    if not math.isfinite(value):
        return NONE
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def of_measure(value: float, measure: Measure) -> str:
    return percent(value) if measure.is_share else _with_unit(number(value), measure)


def _with_unit(text: str, measure: Measure) -> str:
    return f"{text} {measure.unit}" if measure.unit and text != NONE else text


def of_difference(value: float, measure: Measure) -> str:
    """A difference of two values of a measure; for shares in percentage points."""
    if not math.isfinite(value):
        return NONE
    return f"{100 * value:+.1f} points" if measure.is_share else _with_unit(f"{value:+.3g}", measure)


def difference_interval(values: Interval, measure: Measure) -> str:
    """The bounds of a difference; a dash where there are none."""
    if math.isnan(values.low) or math.isnan(values.high):
        return NONE
    if measure.is_share:
        return f"{100 * values.low:+.1f} to {100 * values.high:+.1f}"
    return f"{values.low:+.3g} to {values.high:+.3g}"


def interval(values: Interval, measure: Measure) -> str:
    """The bounds of a value; a dash where there are none."""
    if math.isnan(values.low) or math.isnan(values.high):
        return NONE
    if measure.is_share:
        low, high = percent(values.low).removesuffix("%"), percent(values.high)
        return f"{low} to {high}"
    return f"{number(values.low)} to {number(values.high)}"


def ratio(value: float) -> str:
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "only the model"
    return f"{value:.2f}x"


def of_depth(share: float, depth: int) -> str:
    """A share of `depth` results as a count: 0.912 of 100 is 91."""
    if not math.isfinite(share):
        return NONE
    count = share * depth
    # One decimal where a whole number would hide a small difference.
    decimals = 1 if depth <= 20 or count > 0.98 * depth else 0
    text = f"{count:.{decimals}f}"
    if float(text) == depth and share < 1:
        return f"over {depth - 0.1:g}"
    return text.removesuffix(".0")


def count(value: int, singular: str, plural: str = "") -> str:
    """A count with its noun, such as "1 pair" or "2,000 pairs"."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def period(from_unix_ms: int, to_unix_ms: int) -> str:
    """A period of time in UTC; empty where unknown or outside of the calendar."""
    try:
        begin, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (from_unix_ms, to_unix_ms) if ms)
    except (ValueError, OverflowError, OSError):
        return ""
    if begin.date() == end.date():
        return f"{begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC"
    return f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def moment(unix_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if unix_ms else ""
    except (ValueError, OverflowError, OSError):
        return ""
