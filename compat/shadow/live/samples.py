"""Figures of the comparison as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshfold.compat.shadow.live.second_asks import SecondAsks
from meshfold.compat.shadow.live.sender import Sender
from meshfold.compat.shadow.live.tally import BUCKETS, SIDES, Tally
from meshfold.service.front import Distribution, Sample

_PREFIX = "meshfold_comparison_"
_MEASURES = {
    "overlap": "Overlap at 100 of mesh and model, ties in the best order.",
    "rbo": "Rank-biased overlap of mesh and model, extrapolated, p = 0.9.",
}
# Metric and labels (besides the surface) of each figure in Tally.recent.
_RECENT: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "overlap": ("overlap_recent", {"of": "model"}),
    "noise_overlap": ("overlap_recent", {"of": "mesh_again"}),
    "rbo": ("rbo_recent", {"of": "model"}),
    "noise_rbo": ("rbo_recent", {"of": "mesh_again"}),
    "excess_overlap": ("excess_recent", {}),
    "noise_width": ("excess_width", {}),
    "latency_p50_s": ("latency_difference_seconds", {"quantile": "0.5"}),
    "latency_p99_s": ("latency_difference_seconds", {"quantile": "0.99"}),
}
_RECENT_MEANINGS = {
    "overlap_recent": "Mean overlap at 100 with the mesh's answer over the latest pairs.",
    "rbo_recent": "Mean rank-biased overlap with the mesh's answer over the latest pairs.",
    "excess_recent": "Overlap of model and mesh minus that of the mesh with itself, over the latest pairs.",
    "excess_width": "Width of its 95 % interval.",
    "latency_difference_seconds": "Latency of the model minus that of the mesh, over the latest pairs.",
}


def samples(sender: Sender, dropped: Mapping[str, int], asks: SecondAsks) -> Iterator[Sample | Distribution]:
    """The metrics of the live comparison. dropped: lost pairs by reason."""
    yield Sample(f"{_PREFIX}running", "1 while the comparing process runs.", float(sender.running))
    meaning = "How often the comparing process was started."
    yield Sample(f"{_PREFIX}starts", meaning, sender.starts, counts=True)
    yield Sample(f"{_PREFIX}written", "Pairs written to files.", sender.written, counts=True)
    for reason, count in sorted(dropped.items()):
        meaning = "Pairs that are in no file, by reason."
        yield Sample(f"{_PREFIX}dropped", meaning, count, {"reason": reason}, counts=True)
    for surface, count in sorted(asks.asked.copy().items()):
        meaning = "Second calls of the mesh."
        yield Sample(f"{_PREFIX}asked_again", meaning, count, {"surface": surface}, counts=True)
    for reason, count in sorted(asks.refused.copy().items()):
        meaning = "Pairs for which a second call of the mesh was dropped, by reason."
        yield Sample(f"{_PREFIX}not_asked_again", meaning, count, {"reason": reason}, counts=True)
    for surface, tally in tuple(sender.tallies.items()):
        yield from _of_surface(surface, tally)


def _of_surface(surface: str, tally: Tally) -> Iterator[Sample | Distribution]:
    labels = {"surface": surface}
    for result, count in sorted(tally.pairs.copy().items()):
        meaning = "Pairs, by whether both sides answered."
        yield Sample(f"{_PREFIX}pairs", meaning, count, {**labels, "result": result}, counts=True)
    meaning = "Pairs with the mesh's second answer."
    yield Sample(f"{_PREFIX}noise_pairs", meaning, tally.again, labels, counts=True)
    for side in SIDES:
        of_side = {**labels, "side": side}
        meaning = "Items in answers whose eligibility was evaluated again."
        yield Sample(f"{_PREFIX}checked_items", meaning, tally.checked[side], of_side, counts=True)
        meaning = "Of those, items that the request did not admit."
        yield Sample(f"{_PREFIX}violations", meaning, tally.violations[side], of_side, counts=True)
    for name, meaning in _MEASURES.items():
        histogram = tally.distributions[name]
        yield Distribution(
            f"{_PREFIX}{name}", meaning, BUCKETS, tuple(histogram.counts), histogram.total, labels
        )
    recent = tally.recent
    for name, (metric, more) in _RECENT.items():
        if name in recent:
            value = recent[name]
            yield Sample(f"{_PREFIX}{metric}", _RECENT_MEANINGS[metric], value, {**labels, **more})
