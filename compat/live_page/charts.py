"""Lines over time as SVG, without matplotlib, which is too slow for charts that a server draws every few seconds.

Colours and strokes are classes of live.css. The charts contain no text from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from meshfold.compat.shadow.report.ticks import log_ticks

_WIDTH, _HEIGHT = 430.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 10.0, 30.0, 26.0
# Half the width of a time label.
_TICK_HALF = 20.0
_SPARK_WIDTH, _SPARK_HEIGHT = 150.0, 40.0
# Points further apart than this multiple of their width have a gap between them.
_GAP = 2.5
_MOST_TIME_TICKS = 6
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_TIME_STEPS = (
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 30, 90, 365)),
)


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    points: (begin in seconds since 1970, width in seconds, value), ascending; NaN values are left out. style: classes
    of live.css.
    """

    label: str
    style: str
    points: Sequence[tuple[float, float, float]]

    @property
    def known(self) -> list[tuple[float, float, float]]:
        return [point for point in self.points if math.isfinite(point[2])]


@dataclass(frozen=True)
class Scale:
    """A vertical axis. ticks: values with their labels, ascending; bounds: the ends of the axis."""

    bounds: tuple[float, float]
    ticks: Sequence[tuple[float, str]]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Position of a value, from 0 at the low bound to 1 at the high one."""
        low, high = self.bounds
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-9))
        return min(1.0, max(0.0, (value - low) / (high - low)))


def share_scale(values: Iterable[float]) -> Scale:
    """A scale up to 100 %, from the tenth below the least value."""
    least = min((v for v in values if math.isfinite(v)), default=0.5)
    low = max(0.0, math.floor(10 * least - 0.5) / 10)
    steps = round((1 - low) * 10)
    every = 1 if steps <= 5 else 2 if steps <= 8 else 5
    ticks = [round(1 - n / 10, 1) for n in range(0, steps + 1, every)]
    return Scale((low, 1.0), [(tick, f"{100 * tick:.0f}%") for tick in reversed(ticks)])


def close_scale(values: Iterable[float]) -> Scale:
    """A scale of shares that fits the values closely, without ticks, so that small differences show."""
    known = [v for v in values if math.isfinite(v)] or [0.5]
    return Scale((min(known) - 0.01, max(known) + 0.01), ())


def log_scale(values: Iterable[float], unit: str) -> Scale:
    known = [v for v in values if math.isfinite(v) and v > 0] or [1.0, 10.0]
    low, high = min(known) / 1.4, max(known) * 1.4
    return Scale((low, high), [(t, f"{t:g} {unit}".strip()) for t in log_ticks(low, high)], is_log=True)


def count_scale(values: Iterable[float]) -> Scale:
    """A scale from 0 to a round number."""
    most = max((v for v in values if math.isfinite(v)), default=0.0)
    size = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    top = next(step * size for step in (1, 2, 5, 10) if step * size >= most)
    return Scale((0.0, top), [(top * n / 2, f"{top * n / 2:,g}") for n in range(3)])


def chart(lines: Sequence[Line], scale: Scale, now_s: float, alternative: str) -> str:
    """An <svg> element; "" if no line has a point. alternative: the content in words."""
    shown = [line for line in lines if line.known]
    if not shown:
        return ""
    first_s = min(line.known[0][0] for line in shown)
    last_s = max(now_s, *(begin + width for line in shown for begin, width, _ in line.known[-1:]))
    first_s = min(first_s, last_s - _MINUTE)

    def x(second: float) -> float:
        return _LEFT + (second - first_s) / (last_s - first_s) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - scale.place(value) * (_HEIGHT - _TOP - _BOTTOM)

    drawn = []
    for value, label in scale.ticks:
        at = f"{y(value):.1f}"
        drawn.append(f'<path class="grid" d="M{_LEFT:g} {at}H{_WIDTH - _RIGHT:g}"/>')
        drawn.append(
            f'<text class="tick" x="{_LEFT - 6:g}" y="{at}" dy=".35em" text-anchor="end">{label}</text>'
        )
    for second, label in _time_ticks(first_s, last_s):
        at, bottom = f"{x(second):.1f}", _HEIGHT - _BOTTOM
        drawn.append(f'<path class="grid" d="M{at} {bottom:g}v4"/>')
        # The last label ends at the right edge.
        anchor = "middle" if x(second) < _WIDTH - _TICK_HALF else "end"
        drawn.append(f'<text class="tick" x="{at}" y="{_HEIGHT - 6:g}" text-anchor="{anchor}">{label}</text>')
    drawn += [f'<path class="line {line.style}" d="{_path(line.known, x, y)}"/>' for line in shown]
    drawn.append(_legend(shown))
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(alternative)}">'
        f"{''.join(drawn)}</svg>"
    )


def sparkline(lines: Sequence[Line], scale: Scale, now_s: float, alternative: str) -> str:
    """The lines alone; "" if no line has a point."""
    shown = [line for line in lines if line.known]
    if not shown:
        return ""
    first_s = min(line.known[0][0] for line in shown)
    last_s = max(now_s, first_s + _MINUTE)

    def x(second: float) -> float:
        return 2 + (min(second, last_s) - first_s) / (last_s - first_s) * (_SPARK_WIDTH - 4)

    def y(value: float) -> float:
        return _SPARK_HEIGHT - 3 - scale.place(value) * (_SPARK_HEIGHT - 6)

    paths = "".join(f'<path class="line {line.style}" d="{_path(line.known, x, y)}"/>' for line in shown)
    return (
        f'<svg class="spark" viewBox="0 0 {_SPARK_WIDTH:g} {_SPARK_HEIGHT:g}" role="img" '
        f'aria-label="{escape(alternative)}">{paths}</svg>'
    )


def _path(
    points: Sequence[tuple[float, float, float]], x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    """A path through the middles of the intervals. A single point is a line of length 0 with round ends: a dot."""
    parts, end_s = [], -math.inf
    for begin_s, width_s, value in points:
        is_joined = begin_s - end_s <= (_GAP - 1) * width_s
        at = f"{x(begin_s + width_s / 2):.1f} {y(value):.1f}"
        parts.append(f"L{at}" if is_joined else f"M{at}h0")
        end_s = begin_s + width_s
    return "".join(parts)


def _legend(lines: Sequence[Line]) -> str:
    """Names of the lines, side by side above the chart."""
    drawn, at = [], _LEFT
    for line in lines:
        drawn.append(f'<path class="line {line.style}" d="M{at:g} 12h20"/>')
        drawn.append(f'<text class="legend" x="{at + 25:g}" y="12" dy=".35em">{escape(line.label)}</text>')
        at += 25 + 6.4 * len(line.label) + 14
    return "".join(drawn)


def _time_ticks(first_s: float, last_s: float) -> list[tuple[float, str]]:
    """In UTC."""
    span_s = last_s - first_s
    step_s = next((step for step in _TIME_STEPS if span_s / step <= _MOST_TIME_TICKS), _TIME_STEPS[-1])
    form = "%H:%M" if step_s < _DAY else "%d %b"
    seconds = []
    second = math.ceil(first_s / step_s) * step_s
    while second <= last_s:
        seconds.append(second)
        second += step_s
    try:
        return [(s, datetime.fromtimestamp(s, UTC).strftime(form)) for s in seconds]
    except (ValueError, OverflowError, OSError):
        return []
