"""Draws a matplotlib figure as inline SVG, in the page's own font and colours, light or dark.

A figure uses the placeholder colours below, which are replaced by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholder colours, which no other part of a figure uses, and their CSS variables.
INK, SOFT, LINE, PAPER = "#010101", "#010102", "#010103", "#010104"
MODEL, MESH, AGAIN = "#010105", "#010106", "#010107"
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--paper",
    MODEL: "--model",
    MESH: "--mesh",
    AGAIN: "--again",
}
# A phone's width in points, so that text keeps its size there.
_INCHES = (4.3, 2.9)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.formatter.use_mathtext": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw_svg(name: str, alternative: str, draw: Callable[[Axes], None]) -> str:
    """An <svg> element. name: letters, unique on a page, the prefix of its ids. alternative: its content in words."""
    # Settings for this figure alone, without pyplot or a display.
    with matplotlib.rc_context():
        # Ignores the user's matplotlibrc.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": name})
        figure = Figure(figsize=_INCHES, layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=_NO_METADATA)
    return _inline(text.getvalue(), name, alternative)


def _inline(document: str, name: str, alternative: str) -> str:
    """The SVG without prologue, metadata, global style rules and unused ids, which must not be in a page."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(
        r'^<svg[^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{escape(alternative)}">',
        svg,
    )
    # Text in the page's font at one size, independent of installed fonts.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()
