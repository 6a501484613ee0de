"""Collates prepared queries into batches for a model, in host memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from meshfold.kernels.filter.steps import FilterBatch, Op
from meshfold.model.batch import QueryBatch, ScoreBatch, SearchBatch, UserBatch
from meshfold.model.inputs import HISTORY, PAD
from meshfold.model.schema import Schema
from meshfold.model.types import Int64s
from meshfold.model.value.formulas import padded
from meshfold.service.prepared import PreparedQuery, PreparedScore, PreparedSearch, PreparedUser


class Collation:
    """Makes batches for one schema and vector dimension."""

    def __init__(self, schema: Schema, dimension: int) -> None:
        self._schema = schema
        self._dimension = dimension

    def queries(self, batch: Sequence[PreparedQuery]) -> QueryBatch:
        value_steps, value_constants = padded([p.value for p in batch])
        caps = [p.query.max_per_value for p in batch]
        # One tensor for all numbers: each torch operator costs time that counts in a pass of few milliseconds.
        candidates, max_results, cap_field, cap_limit, explain = torch.from_numpy(
            np.array(
                [
                    [p.depth for p in batch],
                    [p.query.max_results for p in batch],
                    [p.cap_field for p in batch],
                    [0 if c is None else c.limit for c in caps],
                    [p.query.explain for p in batch],
                ]
            )
        )
        return QueryBatch(
            users=self.users([p.user for p in batch]),
            filters=_filters(batch),
            candidates=candidates,
            max_results=max_results,
            value_steps=torch.from_numpy(value_steps),
            value_constants=torch.from_numpy(value_constants),
            cap_field=cap_field,
            cap_limit=cap_limit,
            explain=explain.bool(),
            most_candidates=max(p.depth for p in batch),
            capped=any(p.cap_field >= 0 for p in batch),
        )

    def search(self, batch: Sequence[PreparedSearch]) -> SearchBatch:
        """Collates queries that all have the same number of vectors, at least one."""
        return SearchBatch(
            vectors=torch.from_numpy(np.stack([p.queries for p in batch])),
            filters=_filters(batch),
            candidates=torch.tensor([p.depth for p in batch]),
            max_results=torch.tensor([p.k for p in batch]),
            most_candidates=max(p.depth for p in batch),
            most_results=max(p.k for p in batch),
        )

    def scores(self, batch: Sequence[PreparedScore]) -> ScoreBatch:
        value_steps, value_constants = padded([p.value for p in batch])
        return ScoreBatch(
            users=self.users([p.user for p in batch]),
            positions=torch.from_numpy(_padded([p.positions for p in batch], -1)),
            value_steps=torch.from_numpy(value_steps),
            value_constants=torch.from_numpy(value_constants),
        )

    def users(self, users: Sequence[PreparedUser]) -> UserBatch:
        t, d = len(self._schema.tasks), self._dimension
        vectors = np.zeros((len(users), t, d), np.float32)
        for i, user in enumerate(users):
            if user.query_vector is not None:
                vectors[i] = user.query_vector
        return UserBatch(
            query_vectors=torch.from_numpy(vectors),
            has_vector=torch.from_numpy(np.array([u.query_vector is not None for u in users])),
            history_positions=torch.from_numpy(_padded([u.history for u in users], -1, HISTORY)),
            history_ids=torch.from_numpy(_padded([u.history_ids for u in users], PAD, HISTORY)),
            inputs={
                i.name: torch.from_numpy(np.stack([u.inputs[i.name] for u in users]))
                for i in self._schema.inputs
            },
            has_input=torch.from_numpy(np.array([u.has_input for u in users])),
        )


def _filters(batch: Sequence[PreparedQuery] | Sequence[PreparedSearch]) -> FilterBatch:
    return FilterBatch(
        steps=torch.from_numpy(_padded([p.program.steps for p in batch], int(Op.NOOP))),
        values=torch.from_numpy(_padded([p.program.values for p in batch], 0)),
        value_rows=torch.from_numpy(_padded([p.program.value_rows for p in batch], 0)),
        excluded=torch.from_numpy(_padded([p.excluded for p in batch], -1)),
    )


def _padded(arrays: Sequence[Int64s], filler: int, length: int = 0) -> Int64s:
    """Stacks arrays of different lengths: [B, length, ...] int64. length: 0 for that of the longest array."""
    longest = length or max(len(a) for a in arrays)
    first = arrays[0]
    # No copy where torch accepts the array; a caller's array may be read-only or have negative strides.
    if len(arrays) == 1 and len(first) == longest and first.flags.carray and first.dtype == np.int64:
        return first[None]
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), filler, np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
