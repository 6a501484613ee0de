"""Bytes and operations of the kernels of a GPU, from the formats alone: what a roofline and achieved bytes/s count.

Letters are those of meshfold/model/types.py. Every byte of a table counts once for a batch that needs it, whatever
a kernel reads twice; what a batch hands from kernel to kernel counts as written and read.
"""

from __future__ import annotations

from dataclasses import dataclass

KEY_BYTES = 8
SCORE_BYTES = 4
PLACE_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """bytes: read and written. operations: multiplications and additions, of `kind`: int8 on tensor cores, float32, or
    none that count."""

    bytes: float
    operations: float = 0.0
    kind: str = "int8"


def item_bytes(dimension: int) -> int:
    """Bytes of a scored item: code, scale and row."""
    return dimension + 4 + 4


def centroid_bytes(dimension: int) -> int:
    """Bytes of a centroid: code, scale and spread."""
    return dimension + 4 + 4


def residual_item_bytes(dimension: int) -> int:
    """Bytes of an item's whole vector: code, residual and scale."""
    return 2 * dimension + 4


def filtered(items: float, batch: int, rows: float, column_bytes: float) -> Cost:
    """A bit an item of each row that any of the batch's programs reads, the columns of items that rows leave
    undecided, and a bit an item written for each query."""
    return Cost(items / 8 * (rows + batch) + column_bytes)


def survivors_counted(items: float, batch: int, clusters: int) -> Cost:
    """A bit an item read and a count a cluster written, for each query."""
    return Cost(batch * (items / 8 + 4 * clusters))


def probed(clusters: int, dimension: int, vectors: int) -> Cost:
    """Centroids once for the batch; a score for each query vector and cluster, written and sorted (read and written
    with its place, four digits of a radix); places read."""
    scores = vectors * clusters
    sorting = 4 * 2 * (SCORE_BYTES + 8)
    return Cost(
        clusters * centroid_bytes(dimension) + scores * (SCORE_BYTES + sorting + 8), 2.0 * scores * dimension
    )


def scanned(items_read: float, scored: float, dimension: int, clusters: int = 0) -> Cost:
    """items_read: distinct items that the batch scores. scored: items times query vectors."""
    return Cost(
        items_read * item_bytes(dimension) + clusters * 8 + scored * (KEY_BYTES + PLACE_BYTES),
        2.0 * scored * dimension,
    )


def selected(scored: float, kept: float) -> Cost:
    """Keys of survivors read twice by a radix select, places and keys of the kept gathered."""
    return Cost(scored * 2 * KEY_BYTES + kept * (KEY_BYTES + 8 + PLACE_BYTES + 8))


def ordered(pool: float, kept: float) -> Cost:
    """Positions, rows and similarities of pools to keys, which are written and sorted with their places, each pool in
    one go; positions and similarities of the kept gathered."""
    keyed = 8 + 4 + 4 + KEY_BYTES
    sorting = 2 * KEY_BYTES + 8
    return Cost(pool * (keyed + sorting) + kept * (8 + 2 * (8 + 4)))


def rescored(candidates: float, tasks: int, dimension: int) -> Cost:
    """candidates: of all queries of the batch."""
    return Cost(
        candidates * (residual_item_bytes(dimension) + 8 + 4 * tasks), 8.0 * candidates * tasks * dimension
    )


def vectors_read(candidates: float, dimension: int) -> Cost:
    """Code and residual to float32, as an OverArch takes them."""
    return Cost(candidates * (residual_item_bytes(dimension) + 8 + 4 * dimension), 0.0)


def over_arch(candidates: float, tasks: int, dimension: int, hidden: tuple[int, ...]) -> Cost:
    """An MLP whose first layer has the user in its weights: vectors read, each layer's output written and read."""
    widths = (dimension + tasks, *hidden, tasks)
    multiplied = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
    moved = dimension + 2 * sum(hidden) + 2 * tasks
    return Cost(4.0 * candidates * moved, 2.0 * candidates * multiplied, "float32")
