"""The last line of `compare.py`: pairs of settings, and their figures.

The worse ratio of the two sets of queries counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.kernels.points import DEFAULT, FAST_SCAN, IN_LISTS, OURS, REFERENCE, SQ8, TARGET, Point, ms_at
from benchmarks.kernels.timing import Run
from benchmarks.rows import Row
from meshfold.model.types import Float64s

# Distance from a fast scan's best recall in the opened lists.
_NEAR_ITS_BEST = 0.01

# Places of a peer's run and of ours.
Pair = tuple[int, int]


def same_lists(runs: Sequence[Run], points: Sequence[Point], probes: int) -> Pair:
    """Plain SQ8, and ours in the same lists, as many of them opened, at no lower recall."""
    opened = [i for i, run in enumerate(runs) if getattr(run.setting, "probes", 0) == probes]
    peer = next(i for i in opened if runs[i].system == SQ8 and not runs[i].setting.refined)
    ours = [i for i in opened if runs[i].system == IN_LISTS]
    return peer, _as_good(points, ours, points[peer].recall)


def fast_scan(runs: Sequence[Run], points: Sequence[Point], probes: int) -> Pair:
    """The quickest fast scan in `probes` lists near its best recall there, and ours at its recall."""
    opened = [i for i, run in enumerate(runs) if run.system == FAST_SCAN and run.setting.probes == probes]
    enough = max(points[i].recall for i in opened) - _NEAR_ITS_BEST
    peer = min((i for i in opened if points[i].recall >= enough), key=lambda i: points[i].p50_ms)
    return peer, _as_good(points, _of(points, ours=True), points[peer].recall)


def best_at_target(points: Sequence[Point], peers: Callable[[str], bool]) -> Pair:
    """The quickest of the peers, by name, that reaches TARGET, and the quickest of our index as it is published."""
    theirs = [i for i in _of(points, ours=False) if peers(points[i].system)]
    ours = [i for i, p in enumerate(points) if p.system == DEFAULT]
    return _as_good(points, theirs, TARGET), _as_good(points, ours, TARGET)


def figures_of_pair(what: str, points: Sequence[Point], by_repeat: Float64s) -> dict[str, float]:
    """points, by_repeat: of the peer's run and ours, measured with nothing else between them."""
    peer, own = points
    return {
        f"{what}_ratio": float(np.median(by_repeat[0] / by_repeat[1])),
        f"{what}_peer_ms": peer.p50_ms,
        f"{what}_ms": own.p50_ms,
        f"{what}_peer_recall": peer.recall,
        f"{what}_recall": own.recall,
    }


def at_target(points: Sequence[Point], peers: Sequence[str]) -> dict[str, float]:
    """Times at recall TARGET, each side in whichever lists, codes and settings are fastest there."""
    peer = ms_at([p for p in points if p.system in peers], TARGET)
    own = ms_at([p for p in points if p.system in OURS], TARGET)
    if math.isinf(peer) or math.isinf(own):
        return {}
    return {"at_target_ratio": peer / own, "at_target_peer_ms": peer, "at_target_ms": own}


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """The figures of the last line."""

    def worst(name: str, part: str, **config: Any) -> float:
        return min(
            row.figures[name]
            for row in rows
            if row.config["part"] == part and config.items() <= row.config.items()
        )

    every, tenth, thousandth = "100 %", "10 % independent", "0.1 % independent"
    told = {
        "scan_vs_faiss": worst("same_lists_ratio", "headline", filter=every),
        "filtered10_vs_faiss": worst("same_lists_ratio", "headline", filter=tenth),
        "filtered01_vs_best": worst("best_ratio", "headline", filter=thousandth),
        "scan_vs_fastscan": worst("fast_scan_ratio", "headline", filter=every),
        "batch16_gain": worst("gain", "batch"),
        "bloom_1m_ms": worst("warm_ms", "mask", mask="one Bloom term", threads=1),
        "share_of_bandwidth": worst("share_of_bandwidth", "scan", threads=1),
        "recall_selective": worst("best_recall", "headline", filter=thousandth),
    }
    return {name: float(f"{value:.4g}") for name, value in told.items()}


def beside(rows: Sequence[Row]) -> list[tuple[str, Mapping[str, float]]]:
    """Figures beside the last line: (case, figures) of every row but the curves."""
    return [(row.case, row.figures) for row in rows if row.config["part"] != "curve"]


def _of(points: Sequence[Point], ours: bool) -> list[int]:
    return [i for i, p in enumerate(points) if (p.system in OURS) is ours and p.system != REFERENCE]


def _as_good(points: Sequence[Point], among: Sequence[int], recall: float) -> int:
    """The quickest with this recall; without one, the highest recall."""
    able = [i for i in among if points[i].recall >= recall]
    if able:
        return min(able, key=lambda i: points[i].p50_ms)
    return max(among, key=lambda i: points[i].recall)
