"""Inputs and outputs of RetrievalModel; shape letters as in model/types.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from meshfold.kernels.filter.steps import FilterBatch


@dataclass(frozen=True, eq=False)
class UserBatch:
    """Data of users, padded to common sizes.

    query_vectors: [B, T, D] float32 and has_vector: [B] bool - query vectors in the requests.
    history_positions: [B, H] int64 - oldest first, -1 for unknown items and as padding. history_ids: [B, H] int64 -
    item ids, padded with PAD. inputs: [B, L] int64 or float32 by name - features for towers. has_input: [B] bool -
    whether the request has a feature among the inputs.
    """

    query_vectors: Tensor
    has_vector: Tensor
    history_positions: Tensor
    history_ids: Tensor
    inputs: Mapping[str, Tensor]
    has_input: Tensor


@dataclass(frozen=True, eq=False)
class QueryBatch:
    """Queries of one snapshot, padded to common sizes.

    filters: select eligible items.
    candidates: [B] int64 - number of candidates of each query vector. max_results: [B] int64. most_candidates: limit
    of both, and the number of columns of the results.
    value_steps: [B, L, 2] int64, value_constants: [B, C] float64 - value formulas (kernels/value/formula.py).
    cap_field: [B] int64 - filterable field to cap by, -1 for none. cap_limit: [B] int64.
    explain: [B] bool - whether to count the items that pass the filter.
    capped: whether any query has a field to cap by; on the host, so that no device sync is needed.
    """

    users: UserBatch
    filters: FilterBatch
    candidates: Tensor
    max_results: Tensor
    value_steps: Tensor
    value_constants: Tensor
    cap_field: Tensor
    cap_limit: Tensor
    explain: Tensor
    most_candidates: int
    capped: bool


@dataclass(frozen=True, eq=False)
class Results:
    """Answers, best first.

    positions: [B, K] int64 - -1 after the last. values, similarities: [B, K] float32.
    task_scores: [B, K, T] float32. known: [B] bool - whether the user has a history, features or a query vector; other
    users get popular items. eligible, sampled: [B] int64 - items of the catalog and of the sample
    (kernels/search/sample.py) that pass filter and exclusions, for queries with `explain`. opened, scored: [B, T]
    int64 - numbers of opened clusters and scored items for each task.
    """

    positions: Tensor
    values: Tensor
    similarities: Tensor
    task_scores: Tensor
    known: Tensor
    eligible: Tensor
    opened: Tensor
    scored: Tensor
    sampled: Tensor


@dataclass(frozen=True, eq=False)
class SearchBatch:
    """Searches with Q query vectors each.

    vectors: [B, Q, D] float32. filters: as in QueryBatch. candidates: [B] int64 - number of candidates of each vector,
    most_candidates or fewer. max_results: [B] int64 - results of each vector, most_results or fewer. most_results: the
    number of columns of the results.
    """

    vectors: Tensor
    filters: FilterBatch
    candidates: Tensor
    max_results: Tensor
    most_candidates: int
    most_results: int


@dataclass(frozen=True, eq=False)
class Nearest:
    """Nearest items. positions: [B, Q, K] int64 - best first, -1 after the last. similarities: [B, Q, K] float32."""

    positions: Tensor
    similarities: Tensor


@dataclass(frozen=True, eq=False)
class ScoreBatch:
    """Items to score for users. positions: [B, M] int64, padded with -1. Other fields as in QueryBatch."""

    users: UserBatch
    positions: Tensor
    value_steps: Tensor
    value_constants: Tensor


for _entry in (FilterBatch, UserBatch, QueryBatch, Results, SearchBatch, ScoreBatch):
    # Registration lets torch.export take and return these classes, and torch find their tensors.
    torch.export.register_dataclass(_entry, serialized_type_name=f"meshfold.model.batch.{_entry.__name__}")
