"""What enters RetrievalModel.forward and what leaves it; letters as in model/types.py."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class QueryBatch:
    """Queries of one snapshot, padded to common sizes.

    query_vectors: [B, T, D] float32 and has_vector: [B] bool - the query vectors of those who sent them.
    history: [B, H] int64 - positions, oldest first, -1 for nothing.
    steps: [B, L, 4], values: [B, V], value_rows: [B, V, S] int64 - programs (kernels/filter_program.py).
    excluded: [B, E] int64 - positions to leave out, -1 for nothing.
    depth: [B] int64 - candidates to find. max_results: [B] int64.
    weights: [B, T] float32 and weighted: [B] bool - whose value is the weighted sum of task scores.
    cap_field: [B] int64 - filterable field to cap by, -1 for none. cap_limit: [B] int64.
    """

    query_vectors: Tensor
    has_vector: Tensor
    history: Tensor
    steps: Tensor
    values: Tensor
    value_rows: Tensor
    excluded: Tensor
    depth: Tensor
    max_results: Tensor
    weights: Tensor
    weighted: Tensor
    cap_field: Tensor
    cap_limit: Tensor


@dataclass(frozen=True, eq=False)
class Results:
    """Answers, best first.

    positions: [B, K] int64 - -1 after the last. values, similarities: [B, K] float32.
    task_scores: [B, K, T] float32. known: [B] bool - whether anything is known of the user; popular items
    answer for those of whom nothing is. eligible: [B] int64 - items that pass filter and exclusions.
    opened, scored: [B, T] int64 - clusters opened and items scored for each task.
    """

    positions: Tensor
    values: Tensor
    similarities: Tensor
    task_scores: Tensor
    known: Tensor
    eligible: Tensor
    opened: Tensor
    scored: Tensor
