"""Bytes and operations of a forward pass on a GPU, kernel by kernel: an estimate, not measured.

Bytes and operations follow from the formats (bytes.py) at the shapes of `make gpu`; times are those of a device
that is at the limit of its memory or of its arithmetic, whichever is slower, and starts kernels in no time.

    python -m benchmarks.gpu.roofline
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gpu.bytes import (
    Cost,
    filtered,
    ordered,
    over_arch,
    probed,
    rescored,
    scanned,
    selected,
    survivors_counted,
    vectors_read,
)
from meshfold.commands import console
from meshfold.model.config import IndexConfig
from meshfold.model.index.ivf import RESCORED_PER_RESULT, SCORED_PER_CANDIDATE

ITEMS, DIMENSION, CANDIDATES, PROBES, TASKS = 80_000_000, 128, 1024, 24, 1
HIDDEN = (256, 128, 64)
# Candidates that an OverArch scores at once.
TILE = 2048
# Sizes in world.py: rows of the signature, and bytes an item of all columns and of the columns that filters read.
# Languages have exact planes and are read from no column. A tag's list takes 8 bytes and 1.5 tags of 4.
SIGNATURE_ROWS = 206
COLUMN_BYTES, READ_COLUMN_BYTES = 4 * 4 + 8 + 8 + 1.5 * 4, 3 * 4 + 8 + 8 + 1.5 * 4
PASS_RATE = 0.09
# Assigned at a time while a snapshot is built: all items, each to one of the centroids.
BUILD = "assign all items (build)"


@dataclass(frozen=True)
class Device:
    """Bytes/s of its memory as its maker gives them, operations/s by kind, dense."""

    name: str
    bytes_per_s: float
    operations_per_s: Mapping[str, float]

    def seconds(self, cost: Cost) -> float:
        return max(cost.bytes / self.bytes_per_s, cost.operations / self.operations_per_s[cost.kind])


DEVICES = (
    Device("A100 40 GB", 1.555e12, {"int8": 624e12, "float32": 19.5e12}),
    Device("H100 SXM", 3.35e12, {"int8": 1979e12, "float32": 67e12}),
    Device("H200", 4.8e12, {"int8": 1979e12, "float32": 67e12}),
)


def stages(batch: int, with_filter: bool, ranked: bool) -> dict[str, Cost]:
    """Stages of a forward pass, in order. No two queries share a cluster; together they read every row and column."""
    clusters = IndexConfig().clusters_of(ITEMS)
    vectors = batch * TASKS
    opened = PROBES * ITEMS / clusters
    if with_filter:
        # A filter leaves fewer survivors in a cluster; more clusters are opened until they hold enough.
        opened = max(opened * PASS_RATE, SCORED_PER_CANDIDATE * CANDIDATES)
    scored, pool = vectors * opened, vectors * min(opened, RESCORED_PER_RESULT * CANDIDATES)
    made: dict[str, Cost] = {}
    if with_filter:
        made["filter"] = filtered(ITEMS, batch, SIGNATURE_ROWS, ITEMS * READ_COLUMN_BYTES)
        made["survivors of clusters"] = survivors_counted(ITEMS, batch, clusters)
    made |= {
        "probe": probed(clusters, DIMENSION, vectors),
        "scan": scanned(scored, scored, DIMENSION, clusters),
        "select pools": selected(scored, pool),
        "compare pools": rescored(pool, 1, DIMENSION),
        "order pools": ordered(pool, vectors * CANDIDATES),
        "re-score": rescored(batch * CANDIDATES, TASKS, DIMENSION),
    }
    if ranked:
        made["item vectors"] = vectors_read(batch * CANDIDATES, DIMENSION)
        made["OverArch"] = over_arch(batch * TILE, TASKS, DIMENSION, HIDDEN)
    return made


def building() -> Cost:
    clusters = IndexConfig().clusters_of(ITEMS)
    return Cost(ITEMS * (DIMENSION + 4 + 12), 2.0 * ITEMS * clusters * DIMENSION)


def memory_bytes() -> dict[str, float]:
    """Bytes of the catalog on a device, by part."""
    clusters = IndexConfig().clusters_of(ITEMS)
    return {
        "codes": ITEMS * DIMENSION,
        "units and rows": ITEMS * 8,
        "popularity and its order": ITEMS * 8,
        "centroids, offsets": clusters * (DIMENSION + 16),
        f"signature, {SIGNATURE_ROWS} rows": ITEMS * SIGNATURE_ROWS / 8,
        "columns of six fields": ITEMS * COLUMN_BYTES,
        "residuals": ITEMS * DIMENSION,
    }


def working_bytes(batch: int) -> float:
    """Bytes of a batch beside the catalog: a bit an item and query; keys of clusters with the buffers of sorting and
    sums; survivors' keys and places; places, similarities and keys of pools with the buffers of sorting."""
    clusters = IndexConfig().clusters_of(ITEMS)
    room = max(SCORED_PER_CANDIDATE * CANDIDATES, PROBES * ITEMS / clusters) * 1.5
    pool = RESCORED_PER_RESULT * CANDIDATES
    return batch * (ITEMS / 8 + TASKS * (clusters * 64 + room * 24 + pool * 80 + CANDIDATES * 64))


def kernel_table() -> str:
    lines = [
        "| kernel | bytes | operations | " + " | ".join(d.name for d in DEVICES) + " |",
        "|---" * (3 + len(DEVICES)) + "|",
    ]
    for batch in (16, 64):
        ranked = batch == 16
        whole = stages(batch, with_filter=True, ranked=ranked)
        for name, cost in whole.items():
            lines.append(_line(f"{name}, batch {batch}", [cost]))
        title = f"**filter{', OverArch' if ranked else ''}, batch {batch}**"
        lines.append(_line(title, list(whole.values())))
        plain = stages(batch, with_filter=False, ranked=False)
        lines.append(_line(f"scan, batch {batch}, no filter", [plain["scan"]]))
        lines.append(_line(f"**no filter, batch {batch}**", list(plain.values())))
    lines.append(_line(BUILD, [building()]))
    told = (
        f"**Estimate, not measured**: {ITEMS:,} items x {DIMENSION}, {IndexConfig().clusters_of(ITEMS):,} clusters,"
        f" {PROBES} probes, {CANDIDATES:,} candidates, {TASKS} task; by `python -m benchmarks.gpu.roofline`."
    )
    return "\n".join([*lines, "", told])


def memory_table() -> str:
    held = memory_bytes()
    lines = ["| on the device, 80 M x 128 | GB |", "|---|---|"]
    lines += [f"| {name} | {size / 1e9:.2f} |" for name, size in held.items()]
    without = sum(held.values()) - held["residuals"]
    lines += [
        f"| a batch of {batch} with filters beside it, about | {working_bytes(batch) / 1e9:.2f} |"
        for batch in (16, 64)
    ]
    for name, size in (("without residuals", without), ("with residuals", sum(held.values()))):
        lines.append(f"| **{name}, batch 64** | **{(size + working_bytes(64)) / 1e9:.1f}** |")
    told = "**Calculated from the formats, not measured**; by `python -m benchmarks.gpu.roofline`."
    return "\n".join([*lines, "", told])


def _line(name: str, costs: list[Cost]) -> str:
    moved, calculated = sum(c.bytes for c in costs), sum(c.operations for c in costs)
    times = [sum(device.seconds(c) for c in costs) * 1e3 for device in DEVICES]
    cells = " | ".join(f"{ms:.3f} ms" if ms < 100 else f"{ms / 1e3:.1f} s" for ms in times)
    return f"| {name} | {_scaled(moved)}B | {_scaled(calculated)} | {cells} |"


def _scaled(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g} " if number else "0 "


def main() -> None:
    console.print(kernel_table())
    console.print()
    console.print(memory_table())


if __name__ == "__main__":
    main()
