"""Single operations of `compare.py`: the scan beside the memory's bandwidth, filters alone, batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.kernels.data import FILTERS, Data, Filter
from benchmarks.kernels.index import EVERY, Index, Prepared, Setting
from benchmarks.kernels.peers import Postings
from benchmarks.kernels.timing import READ_BYTES, Bandwidth, alternate
from meshfold.kernels.filter.eligible import eligible
from meshfold.kernels.filter.steps import FilterTensors
from meshfold.kernels.search.coarse import packed_bytes
from meshfold.kernels.search.ivf_search import search
from meshfold.model.filter.expression import All, Expression, Match, Not
from meshfold.model.filter.expression import Any as AnyOf

K = 1000
BATCH = 16

# Filters over one million items. any10 has exact planes; any100 and any1000 have posting lists, which native kernels
# use, and Bloom rows, which are measured on an index without lists.
BLOOM = "one Bloom term"
MASKS: Mapping[str, Expression] = {
    "one exact term": Match("any10", ints=(3,)),
    "one listed term": Match("any1000", ints=(31,)),
    BLOOM: Match("any1000", ints=(31,)),
    "three fields, and or not": All(
        (AnyOf((Match("any10", ints=(3,)), Match("any100", ints=(7,)))), Not(Match("any1000", ints=(31,))))
    ),
}


@dataclass(frozen=True)
class Part:
    """A row without what all rows share. config["part"]: scan, mask, bitmap or batch."""

    case: str
    config: Mapping[str, Any]
    figures: Mapping[str, float]


def scan_rows(index: Index, data: Data, use: Callable[[int], None], repeats: int) -> list[Part]:
    """Bytes of coarse codes that a search over every cluster reads in a second, beside plain reads of the memory."""
    bandwidth = Bandwidth()
    n, d = data.vectors.shape
    scanned_bytes = n * packed_bytes(d)
    prepared = [
        index.prepare(data.queries[kind][i : i + 1], [()], K, Setting(EVERY, EVERY, 2))
        for kind in data.queries
        for i in range(4)
    ]

    def scan(p: Prepared) -> None:
        search(p.vectors, index.ivf, index.filter, p.programs, p.limits, p.k)

    scans = [lambda p=p: scan(p) for p in prepared]
    rows = []
    for threads in (1, 2):
        use(threads)
        means = bandwidth.means(threads)
        # Equal numbers of calls in one random order, so that a busy machine slows down all of them.
        taken_s = alternate([scans, *([read] * len(scans) for read in means.values())], -(-repeats // 4))
        scan_s, *reads_s = (float(np.median(of_run)) for of_run in taken_s)
        by_means = {name: READ_BYTES / read_s / 1e9 for name, read_s in zip(means, reads_s, strict=True)}
        figures = {
            "scan_gb_per_s": scanned_bytes / scan_s / 1e9,
            "share_of_bandwidth": scanned_bytes / scan_s / 1e9 / max(by_means.values()),
            **{f"{name}_gb_per_s": speed for name, speed in by_means.items()},
        }
        config = {"part": "scan", "threads": threads, "k": K}
        rows.append(Part(f"scan of every cluster, threads {threads}", config, figures))
    use(1)
    return rows


def mask_rows(
    index: Index, postings: Postings, data: Data, use: Callable[[int], None], repeats: int
) -> list[Part]:
    """Filters over all items: sets of bits with the exact columns checked; beside them what Faiss is handed."""
    bandwidth = Bandwidth()
    n = len(data.vectors)
    wanted = torch.ones(1, dtype=torch.bool)
    without_lists = replace(index.filter, lists=None)
    rows = []
    for threads in (1, 2):
        use(threads)
        for name, expression in MASKS.items():
            programs = index.compiled([expression])
            filter_tensors = without_lists if name == BLOOM else index.filter

            def mask(tensors: FilterTensors = filter_tensors, programs: Any = programs) -> None:
                eligible(tensors, programs, wanted, n)

            warm_s = alternate([[mask]], repeats)
            cold_s = []
            for _ in range(repeats):
                bandwidth.read()
                cold_s.append(alternate([[mask]], 1, warm_up=False))
            figures = {"warm_ms": _median_ms(warm_s), "cold_ms": _median_ms(np.array(cold_s))}
            rows.append(
                Part(
                    f"mask of {name}, threads {threads}",
                    {"part": "mask", "threads": threads, "mask": name},
                    figures,
                )
            )
    use(1)
    for filter_ in FILTERS:
        if filter_.relation in ("independent", "of two terms"):
            taken_s = alternate([_bits_calls(postings, data, filter_, 10)], repeats)
            config = {
                "part": "bitmap",
                "filter": filter_.name,
                "way": postings.ways()[" and ".join(filter_.fields)],
            }
            rows.append(Part(f"bitmap for Faiss, {filter_.name}", config, {"warm_ms": _median_ms(taken_s)}))
    return rows


def batch_rows(index: Index, data: Data, use: Callable[[int], None], repeats: int) -> list[Part]:
    """Independent queries one by one and sixteen at a time, an eighth of the clusters each, nothing filtered."""
    use(1)
    rows = []
    setting = Setting(max(1, index.ivf.centroids.shape[0] // 8), EVERY, 2)
    for kind, vectors in data.queries.items():
        ones = [index.prepare(vectors[i : i + 1], [()], K, setting) for i in range(len(vectors))]
        starts = range(0, len(vectors), BATCH)
        batches = [index.prepare(vectors[s : s + BATCH], [()] * BATCH, K, setting) for s in starts]
        calls = [[lambda p=p: index.answer(p) for p in prepared] for prepared in (ones, batches)]
        taken_s = alternate(calls, max(1, repeats // 4))
        alone_ms, together_ms = _median_ms(taken_s[0]), _median_ms(taken_s[1]) / BATCH
        figures = {"batch1_ms": alone_ms, "batch16_ms": together_ms, "gain": alone_ms / together_ms}
        rows.append(Part(f"batch of {BATCH}, {kind}", {"part": "batch", "queries": kind, "k": K}, figures))
    return rows


def _bits_calls(postings: Postings, data: Data, filter_: Filter, values: int) -> list[Callable[[], Any]]:
    return [partial(postings.bits, data.terms("user-like", filter_, i)) for i in range(values)]


def _median_ms(taken_s: Any) -> float:
    return float(np.nanmedian(taken_s)) * 1e3
