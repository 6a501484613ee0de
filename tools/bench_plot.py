"""A plot of latency by rate."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from meshfold.tools.bench_search import Found

# Okabe and Ito's colours, which are distinct to colour-blind people.
_LINES = {
    "p50_ms": ("median", "#0072B2"),
    "p95_ms": ("95th percentile", "#E69F00"),
    "p99_ms": ("99th", "#D55E00"),
}
_GREY = "#555555"


def draw(found: Found, limit_ms: float, target: str, path: Path) -> None:
    """Plots a point for each window, the limit, and the highest rate with its interval. Raises OSError."""
    windows = sorted(found.windows, key=lambda window: window.rate_hz)
    rates = [window.rate_hz for window in windows]
    # Not pyplot's, which would use a display and global state.
    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for name, (label, colour) in _LINES.items():
        values = [getattr(window, name) for window in windows]
        axes.plot(rates, values, "o-", color=colour, label=label, markersize=4, linewidth=1)
    axes.axhline(limit_ms, color=_GREY, linestyle="--", linewidth=1, label=f"{limit_ms:g} ms")
    if found.rate_hz:
        axes.axvspan(found.low_hz, found.high_hz, color="#009E73", alpha=0.15, linewidth=0)
        axes.axvline(
            found.rate_hz, color="#009E73", linewidth=1.5, label=f"{found.rate_hz:.1f} a second are kept"
        )
    late = [window for window in windows if window.generator_was_late]
    if late:
        axes.plot(
            [window.rate_hz for window in late],
            [window.p99_ms for window in late],
            "x",
            color="black",
            label="the generator was late",
        )
    axes.set(xlabel="requests a second", ylabel="ms from when a call was due", yscale="log", title=target)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
