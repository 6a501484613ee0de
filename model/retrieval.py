"""The whole of retrieval as one module: one forward pass from user to results, of one version."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from meshfold.kernels.bundles import contains, unpack
from meshfold.kernels.cap_per_value import cap_per_value
from meshfold.kernels.ordered import NOTHING, best, keys
from meshfold.kernels.quantize import Quantized
from meshfold.model.batch import QueryBatch, Results
from meshfold.model.config import Merge
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.index.ivf import IvfIndex
from meshfold.model.merge import merge_tasks
from meshfold.model.ranking import SimilarityRanking
from meshfold.model.snapshot import Snapshot
from meshfold.model.user import HistoryMean


class RetrievalModel(nn.Module):
    """User module, filter, index, ranking and caps of one snapshot.

    popular: [N] int32 - positions, most popular first, ties to the smaller item id.
    popularity: [N] float32 by position, from 0 to 1 - the similarity where nothing is known of a user.
    """

    popular: Tensor
    popularity: Tensor

    def __init__(
        self,
        user: HistoryMean,
        filter_: EligibilityFilter,
        index: IvfIndex,
        ranking: SimilarityRanking,
        popular: Tensor,
        popularity: Tensor,
        merge: Merge,
    ) -> None:
        super().__init__()
        self.user = user
        self.filter = filter_
        self.index = index
        self.ranking = ranking
        self.register_buffer("popular", popular)
        self.register_buffer("popularity", popularity)
        self._merge = merge

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """The model that a snapshot holds; its tensors stay mapped from disk until they are moved."""
        index, items = snapshot.index, snapshot.items
        return cls(
            HistoryMean(),
            EligibilityFilter(snapshot.content.items, snapshot.filter["signature"], *snapshot.columns()),
            IvfIndex(
                Quantized(index["codes"], index["residuals"], index["units"]),
                index["rows"],
                index["centroids"],
                index["centroid_units"],
                index["centroid_spreads"],
                index["offsets"],
                snapshot.content.scan_budget,
            ),
            SimilarityRanking(),
            items["popular"],
            items["popularity"],
            snapshot.content.config.merge,
        )

    def forward(self, batch: QueryBatch) -> Results:
        """Read top to bottom: the way of a request."""
        vectors, known = self.user(
            batch.query_vectors, batch.has_vector, self.index.vectors(batch.history), batch.history >= 0
        )
        eligible = self.filter(batch.steps, batch.values, batch.value_rows, batch.excluded)

        queries = self.index.quantize(vectors)
        found = self.index.search(queries, eligible, batch.depth)
        merged = merge_tasks(self._or_popular(found.positions, known, eligible, batch.depth))

        similarities = self.index.similarities(queries, merged.positions)
        similarities = self._or_popularity(similarities, known, merged.positions)
        candidates = self._keep(merged.positions, merged.common, similarities, batch)

        values, task_scores = self.ranking(similarities, batch.weights, batch.weighted)
        ordered = torch.where(candidates, self._keys(values, merged.positions), NOTHING)
        held, places = best(ordered, ordered.shape[1])
        positions = torch.where(held > NOTHING, merged.positions.gather(1, places), -1)
        positions, places = self._cap(positions, places, batch)

        k = min(int(batch.max_results.max()), positions.shape[1])
        beyond = torch.arange(k, device=positions.device) >= batch.max_results[:, None]
        positions, places = positions[:, :k].masked_fill(beyond, -1), places[:, :k]
        return Results(
            positions=positions,
            values=values.gather(1, places),
            similarities=similarities.amax(1).gather(1, places),
            task_scores=task_scores.transpose(1, 2).gather(
                1, places.unsqueeze(-1).expand(-1, -1, task_scores.shape[1])
            ),
            known=known,
            eligible=torch.stack([unpack(bits, self.popular.numel()).sum() for bits in eligible]),
            opened=found.opened,
            scored=found.scored,
        )

    def _keys(self, scores: Tensor, positions: Tensor) -> Tensor:
        """Order by score, then item id; NOTHING where the position is -1."""
        rows = self.index.rows[positions.clamp(min=0)].long()
        return torch.where(positions >= 0, keys(scores, rows), NOTHING)

    def _or_popular(self, found: Tensor, known: Tensor, eligible: Tensor, depth: Tensor) -> Tensor:
        """found: [B, T, K] positions; the most popular eligible ones instead where nothing is known."""
        for i in torch.nonzero(~known).flatten().tolist():
            found[i] = -1
            survivors = self.popular[contains(eligible[i], self.popular.long())][: int(depth[i])]
            found[i, :, : survivors.numel()] = survivors.long()
        return found

    def _or_popularity(self, similarities: Tensor, known: Tensor, positions: Tensor) -> Tensor:
        popularity = self.popularity[positions.clamp(min=0)].unsqueeze(1)
        return torch.where(known[:, None, None], similarities, popularity)

    def _keep(self, positions: Tensor, common: Tensor, similarities: Tensor, batch: QueryBatch) -> Tensor:
        """[B, M] bool: the `depth` best by similarity, or what every task found, filled up to max_results."""
        by_similarity = self._keys(similarities.amax(1), positions)
        places = best(by_similarity, positions.shape[1])[1]
        if self._merge is Merge.INTERSECTION:
            # Common ones first, and of the others just as many as are missing.
            shared = common.gather(1, places)
            missing = (batch.max_results - shared.sum(1)).clamp(min=0)
            rank = torch.cumsum(~shared, 1)
            kept = shared | (rank <= missing[:, None])
        else:
            kept = torch.arange(places.shape[1], device=places.device) < batch.depth[:, None]
        return torch.zeros_like(common).scatter(1, places, kept) & (positions >= 0)

    def _cap(self, positions: Tensor, places: Tensor, batch: QueryBatch) -> tuple[Tensor, Tensor]:
        """Results in order, less those beyond the cap of a query; the rest moves up."""
        positions, places = positions.clone(), places.clone()
        for i, (field, limit) in enumerate(
            zip(batch.cap_field.tolist(), batch.cap_limit.tolist(), strict=True)
        ):
            if field < 0:
                continue
            real = positions[i] >= 0
            stays = cap_per_value(*self.filter.values_at(field, positions[i][real]), limit)
            kept, of = positions[i][real][stays], places[i][real][stays]
            positions[i] = -1
            positions[i, : kept.numel()] = kept
            places[i, : of.numel()] = of
        return positions, places
