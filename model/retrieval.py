"""Retrieval as one module: a forward pass of one version from users to results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from meshfold.kernels.filter.first_members import first_members
from meshfold.kernels.filter.steps import FilterBatch
from meshfold.kernels.operation import is_plain
from meshfold.kernels.search.merge import merge_tasks
from meshfold.kernels.search.ranked import ranked
from meshfold.kernels.search.tensors import Found
from meshfold.kernels.vectors.quantize import Quantized
from meshfold.model.batch import Nearest, QueryBatch, Results, ScoreBatch, SearchBatch, UserBatch
from meshfold.model.config import Merge
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.index.ivf import IvfIndex, Plan
from meshfold.model.ranking import ProgramRanking, SimilarityRanking
from meshfold.model.schema import FieldKind
from meshfold.model.snapshot import OVER_ARCH, USER_TOWER, Snapshot
from meshfold.model.stages import stage
from meshfold.model.user import HistoryMean, ProgramTower
from meshfold.model.value.module import ValueModel


class RetrievalModel(nn.Module):
    """User tower, filter, index, OverArch, value model and caps of one snapshot.

    value_fields: places of the filterable fields whose numbers formulas read.

    popular: [N] int32 - positions, most popular first, ties to the smaller item id.
    popularity: [N] float32 by position, from 0 to 1 - the similarity for unknown users.
    """

    popular: Tensor
    popularity: Tensor

    def __init__(
        self,
        user: HistoryMean | ProgramTower,
        filter_: EligibilityFilter,
        index: IvfIndex,
        ranking: SimilarityRanking | ProgramRanking,
        value: ValueModel,
        value_fields: Sequence[int],
        popular: Tensor,
        popularity: Tensor,
        merge: Merge,
    ) -> None:
        super().__init__()
        self.user = user
        self.filter = filter_
        self.index = index
        self.ranking = ranking
        self.value = value
        self._value_fields = tuple(value_fields)
        self.register_buffer("popular", popular)
        self.register_buffer("popularity", popularity)
        self._merge = merge

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """The model of a snapshot. Its tensors stay mapped from disk until they are moved.

        Raises SnapshotRefused where a program cannot be run.
        """
        index, items, schema = snapshot.index, snapshot.items, snapshot.schema
        names = [f.name for f in schema.filterable]
        tower, over_arch = snapshot.program(USER_TOWER), snapshot.program(OVER_ARCH)
        return cls(
            HistoryMean(len(schema.tasks)) if tower is None else ProgramTower(tower),
            EligibilityFilter(
                snapshot.content.items,
                snapshot.filter["signature"],
                *snapshot.columns(),
                [f.kind is FieldKind.NUMBER for f in schema.filterable],
                snapshot.lists(),
            ),
            IvfIndex(
                Quantized(index["codes"], index["residuals"], index["units"]),
                index["rows"],
                index["centroids"],
                index["centroid_units"],
                index["centroid_spreads"],
                index["offsets"],
                snapshot.content.scan_budget,
            ),
            SimilarityRanking()
            if over_arch is None
            else ProgramRanking(over_arch, snapshot.content.precision),
            ValueModel(),
            [names.index(name) for name in snapshot.content.value.fields],
            items["popular"],
            items["popularity"],
            snapshot.content.config.merge,
        )

    def forward(self, batch: QueryBatch) -> Results:
        """Runs all stages of a request, in order."""
        user, known = self.embed(batch.users)
        found, eligible, sampled = self._found(
            user,
            known,
            batch.filters,
            batch.candidates,
            batch.most_candidates,
            batch.max_results,
            batch.explain,
        )
        merged = merge_tasks(found.positions)

        similarities = self._similarities(self.index.quantize(user), known, merged.positions)
        positions, similarities = self._candidates(merged.positions, merged.common, similarities, batch)

        similarity = similarities.amax(1)
        values, task_scores = self._scored(
            user, known, positions, similarities, similarity, batch.value_steps, batch.value_constants
        )

        # With a cap all candidates are ordered, because later items replace those that it drops.
        max_results = None if batch.capped else batch.max_results
        order = ranked(values, positions, self.index.rows, batch.most_candidates, max_results)
        ordered, places = order.positions, order.places
        if batch.capped:
            ordered, places = self._cap(ordered, places, batch)
        return Results(
            positions=ordered,
            values=values.gather(1, places),
            similarities=similarity.gather(1, places),
            task_scores=task_scores.gather(2, places.unsqueeze(1).expand_as(task_scores)).transpose(1, 2),
            known=known,
            eligible=eligible,
            opened=found.opened,
            scored=found.scored,
            sampled=sampled,
        )

    def embed(self, users: UserBatch) -> tuple[Tensor, Tensor]:
        """(vectors: [B, T, D] float32; known: [B] bool).

        A user is unknown without history, features and query vectors, or where all vectors are 0.
        """
        in_history = users.history_positions >= 0
        inputs = {
            "history": users.history_ids,
            "history_vectors": torch.where(
                in_history.unsqueeze(-1), self.index.vectors(users.history_positions), 0.0
            ),
            "in_history": in_history,
            **users.inputs,
        }
        vectors = torch.where(users.has_vector[:, None, None], users.query_vectors, self.user(inputs))
        has_data = users.has_vector | users.has_input | in_history.any(1)
        known = has_data & _is_nonzero(vectors)
        return vectors, known

    def search(self, batch: SearchBatch) -> Nearest:
        """The candidates of each vector in order, the same as those of a QueryBatch of these vectors."""
        b, q, _ = batch.vectors.shape
        known = _is_nonzero(batch.vectors)
        nobody = torch.zeros_like(known)
        found, _, _ = self._found(
            batch.vectors,
            known,
            batch.filters,
            batch.candidates,
            batch.most_candidates,
            batch.max_results,
            nobody,
        )
        positions, similarities = (
            of_each[..., : batch.most_results] for of_each in (found.positions, found.similarities)
        )
        # Each vector has candidates of its own, so that similarities are computed as for b * q queries.
        similarities = self._or_popularity(
            similarities.flatten(0, 1).unsqueeze(1), known.repeat_interleave(q), positions.flatten(0, 1)
        )
        beyond = torch.arange(positions.shape[2], device=positions.device) >= batch.max_results[:, None, None]
        return Nearest(positions.masked_fill(beyond, -1), similarities.view(b, q, -1))

    def score(self, batch: ScoreBatch) -> tuple[Tensor, Tensor]:
        """(values: [B, M] float32, task_scores: [B, T, M] float32), equal to those in a QueryBatch's results."""
        user, known = self.embed(batch.users)
        similarities = self._similarities(self.index.quantize(user), known, batch.positions)
        return self._scored(
            *(user, known, batch.positions, similarities, similarities.amax(1)),
            *(batch.value_steps, batch.value_constants),
        )

    def plan(self, sampled: int, candidates: int) -> tuple[Plan, float]:
        """The plan of a query's search; see IvfIndex.plan."""
        return self.index.plan(sampled, candidates)

    def over(
        self, filter_: EligibilityFilter, index: IvfIndex, popular: Tensor, popularity: Tensor
    ) -> RetrievalModel:
        """A model with the same towers, ranking and values over another index, such as one on several devices."""
        parts = (self.ranking, self.value, self._value_fields, popular, popularity, self._merge)
        return RetrievalModel(self.user, filter_, index, *parts)

    def _found(
        self,
        vectors: Tensor,
        known: Tensor,
        filters: FilterBatch,
        candidates: Tensor,
        most_candidates: int,
        max_results: Tensor,
        explain: Tensor,
    ) -> tuple[Found, Tensor, Tensor]:
        """(candidates of each query vector, or the most popular eligible items for unknown users; numbers of eligible
        items of the catalog, and of the sample, for queries with `explain`)."""
        stage()
        found = self.index.search_parts(
            vectors, self.filter.parts(), filters, candidates, most_candidates, max_results
        )
        # A search filters opened clusters alone; popular items need the filter over the whole catalog.
        if _all_set(known & ~explain):
            none = torch.zeros_like(candidates)
            return found, none, none
        eligible = self.filter(filters, (~known & (candidates > 0)) | explain)
        positions = self._or_popular(found.positions, known, eligible.bits, candidates)
        return replace(found, positions=positions), eligible.counts, found.sampled

    def _similarities(self, queries: Quantized, known: Tensor, positions: Tensor) -> Tensor:
        """[B, T, M] float32: similarity of items to each query vector; their popularity for unknown users."""
        stage()
        return self._or_popularity(self.index.similarities(queries, positions), known, positions)

    def _scored(
        self,
        user: Tensor,
        known: Tensor,
        positions: Tensor,
        similarities: Tensor,
        similarity: Tensor,
        value_steps: Tensor,
        value_constants: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(values: [B, M] float32, task_scores: [B, T, M] float32) of the items at positions: [B, M] int64. similarity:
        [B, M] float32 - the largest over the tasks."""
        stage()
        task_scores = self.ranking(user, positions, similarities, self.index.vectors, self.index.coded)
        task_scores = torch.where(known[:, None, None], task_scores, similarities)
        fields, present = self.filter.numbers_at(self._value_fields, positions)
        values = self.value(value_steps, value_constants, task_scores, similarity, fields, present)
        return values, task_scores

    def _or_popular(self, found: Tensor, known: Tensor, eligible: Tensor, candidates: Tensor) -> Tensor:
        """[B, T, most_candidates] positions: `found`, or the most popular eligible items for unknown users."""
        popular = first_members(self.popular, eligible, torch.where(known, 0, candidates), found.shape[2])
        return torch.where(known[:, None, None], found, popular.unsqueeze(1))

    def _or_popularity(self, similarities: Tensor, known: Tensor, positions: Tensor) -> Tensor:
        if _all_set(known):
            return similarities
        # Popularity is read for unknown users alone, because each read is a cache miss.
        at = torch.where(known[:, None], 0, positions.clamp(min=0))
        popularity = self.popularity[at].unsqueeze(1)
        return torch.where(known[:, None, None], similarities, popularity)

    def _candidates(
        self, positions: Tensor, common: Tensor, similarities: Tensor, batch: QueryBatch
    ) -> tuple[Tensor, Tensor]:
        """(positions: [B, K], similarities: [B, T, K]) of the candidates.

        UNION: the best by similarity. INTERSECTION: items that every task found, filled up to max_results.
        """
        if self._merge is Merge.UNION:
            order = ranked(
                similarities.amax(1), positions, self.index.rows, batch.most_candidates, batch.candidates
            )
            chosen, places = order.positions, order.places
        else:
            # Items of all tasks come first, then the best of the others up to max_results.
            order = ranked(similarities.amax(1), positions, self.index.rows, positions.shape[1])
            found, places = order.positions, order.places
            kept = found >= 0
            shared = kept & common.gather(1, places)
            missing = (batch.max_results - shared.sum(1)).clamp(min=0)
            kept &= shared | (torch.cumsum(~shared, 1) <= missing[:, None])
            moved = torch.argsort((~kept).byte(), dim=1, stable=True)[:, : batch.most_candidates]
            places = places.gather(1, moved)
            chosen = torch.where(kept.gather(1, moved), found.gather(1, moved), -1)
        of_tasks = places.unsqueeze(1).expand(-1, similarities.shape[1], -1)
        return chosen, similarities.gather(2, of_tasks)

    def _cap(self, positions: Tensor, places: Tensor, batch: QueryBatch) -> tuple[Tensor, Tensor]:
        """(positions, places) without results beyond a query's cap, in order, and cut to max_results."""
        stays = self.filter.stays(positions, batch.cap_field, batch.cap_limit)
        moved = torch.argsort((~stays).byte(), dim=1, stable=True)
        ordered = torch.where(stays, positions, -1).gather(1, moved)
        beyond = torch.arange(batch.most_candidates, device=ordered.device) >= batch.max_results[:, None]
        return ordered.masked_fill(beyond, -1), places.gather(1, moved)


def _all_set(flags: Tensor) -> bool:
    """True if all flags are set. Returns False off the CPU to avoid a device sync."""
    return is_plain(flags) and bool(flags.all())


def _is_nonzero(vectors: Tensor) -> Tensor:
    """[B] bool: whether any value of a query's vectors differs from 0. vectors: [B, T, D] float32."""
    return (vectors != 0).flatten(1).any(1)
