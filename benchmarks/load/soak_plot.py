"""Memory, threads and files of a server over time, from a row of soak.py alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.plotting import pyplot, saved
from benchmarks.rows import PLOTS, Row

PLOT = PLOTS / "soak.svg"
_RESIDENT, _ANONYMOUS, _OTHER, _SWAP = "#4e79a7", "#f28e2b", "#59a14f", "#dddddd"


def draw(row: Row, path: Path | None = None) -> Path:
    """path: None for the folder of plots. Returns where it was written."""
    path = path or PLOT
    samples = row.config["samples"]
    minutes = [sample["at_s"] / 60 for sample in samples]
    figure, (memory, counts) = pyplot().subplots(2, 1, figsize=(9, 6), sharex=True)
    for ax in (memory, counts):
        for at_s in row.config["swapped_s"]:
            ax.axvline(at_s / 60, color=_SWAP, linewidth=0.8, zorder=0)
        ax.axvline(row.config["warm"] * row.config["minutes"], color="#999999", linestyle=":")
        ax.spines[["top", "right"]].set_visible(False)
    for name, colour, label in (
        ("rss_mb", _RESIDENT, "resident"),
        ("anonymous_mb", _ANONYMOUS, "anonymous"),
    ):
        memory.plot(minutes, [s[name] for s in samples], color=colour, linewidth=0.8, alpha=0.5)
        settled = [s for s in samples if s["settled"]]
        memory.plot(
            [s["at_s"] / 60 for s in settled],
            [s[name] for s in settled],
            ".",
            color=colour,
            label=f"{label}, no swap under way",
        )
    memory.set_ylabel("MB")
    memory.set_ylim(bottom=0)
    memory.legend(loc="lower right", fontsize=8)
    figures = row.figures
    memory.set_title(
        f"{figures['slope_mb_per_hour']:+.2f} MB an hour ({figures['slope_low']:+.2f} to "
        f"{figures['slope_high']:+.2f}), {figures['swaps']:g} swaps (grey), {row.config['rate_hz']:g} calls a second",
        fontsize=9,
        loc="left",
    )
    counts.plot(minutes, [s["threads"] for s in samples], color=_RESIDENT, label="threads")
    counts.plot(minutes, [s["files"] for s in samples], color=_OTHER, label="open files")
    counts.set_ylim(bottom=0)
    counts.set_xlabel("minutes")
    counts.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    return saved(figure, path)
