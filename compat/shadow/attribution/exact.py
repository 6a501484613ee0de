"""The exact search: the answer of a snapshot whose index misses no item.

The forward pass is the model's own (model/retrieval.py). Only the index differs: it scores every eligible item with 16
bits per dimension (kernels/search/exact_search.py, kernels/search/rescore.py), while the served index scores those of
some clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import unpack
from meshfold.kernels.filter.eligible import Eligible, eligible
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.exact_search import exact_search
from meshfold.kernels.search.ordered import keys
from meshfold.kernels.search.rescore import rescore
from meshfold.kernels.search.tensors import Found
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.index.ivf import IvfIndex
from meshfold.model.snapshot import Snapshot

# Share of eligible items below which only those are scored, one query at a time. Above it all items are scored, and
# several queries share each read of an item.
_SURVIVORS_ALONE = 0.15
# Extra results of a search over all items, as a number and a factor, for queries with few eligible items.
_BEYOND, _BEYOND_SHARE = 256, 1.15


class ExactIndex(IvfIndex):
    """An index whose search scores every eligible item. Its other operations are the served index's."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> ExactIndex:
        index = snapshot.index
        return cls(
            Quantized(index["codes"], index["residuals"], index["units"]),
            index["rows"],
            index["centroids"],
            index["centroid_units"],
            index["centroid_spreads"],
            index["offsets"],
            snapshot.content.items,
        )

    def search_parts(
        self,
        vectors: Tensor,
        parts: Sequence[FilterTensors],
        filters: FilterBatch,
        candidates: Tensor,
        most_candidates: int,
        max_results: Tensor | None = None,
    ) -> Found:
        (filter_,) = parts
        t = vectors.shape[1]
        if t > 1 and bool((vectors == vectors[:, :1]).all()):
            # Towers without heads give all tasks the same vector, so that one search suffices.
            found = self._searched(vectors[:, :1], filter_, filters, candidates, most_candidates)
            positions, similarities = (
                each.expand(-1, t, -1).contiguous() for each in (found.positions, found.similarities)
            )
            opened, scored = found.opened.expand(-1, t), found.scored.expand(-1, t)
            return Found(positions, similarities, opened, scored, found.sampled)
        return self._searched(vectors, filter_, filters, candidates, most_candidates)

    def _searched(
        self,
        vectors: Tensor,
        filter_: FilterTensors,
        filters: FilterBatch,
        candidates: Tensor,
        most_candidates: int,
    ) -> Found:
        b, t, _ = vectors.shape
        n = self.rows.numel()
        queries = quantize(vectors)
        admitted = eligible(filter_, filters, candidates > 0, n)
        counts = admitted.counts.tolist()
        positions = torch.full((b, t, most_candidates), -1, dtype=torch.int64)
        together = [i for i in range(b) if counts[i] > _SURVIVORS_ALONE * n]
        left = sorted(set(range(b)) - set(together))
        if together:
            left += self._among_all(queries, admitted, candidates, together, positions)
        for i in left:
            self._among_survivors(queries, admitted.bits[i], int(candidates[i]), i, positions)
        each = Quantized(
            *(x.reshape(b * t, 1, *x.shape[2:]) for x in (queries.codes, queries.residuals, queries.scales))
        )
        compared = rescore(each, self._items, positions.view(b * t, -1)).view(positions.shape)
        every = torch.full((b, t), self.centroids.shape[0])
        scored = admitted.counts.unsqueeze(1).expand(b, t)
        return Found(positions, compared, every, scored, torch.zeros(b, dtype=torch.int64))

    @property
    def _items(self) -> Quantized:
        return Quantized(self.codes, self.residuals, self.units)

    def _among_all(
        self, queries: Quantized, admitted: Eligible, candidates: Tensor, places: list[int], positions: Tensor
    ) -> list[int]:
        """Fills in the positions of the queries at `places`; returns those that found too few eligible items."""
        n, t = self.rows.numel(), queries.codes.shape[1]
        counts = admitted.counts.tolist()
        most = max(int(candidates[i]) / (counts[i] / n) for i in places)
        wide = min(n, math.ceil(most * _BEYOND_SHARE) + _BEYOND)
        asked = Quantized(
            *(x[places].flatten(0, 1) for x in (queries.codes, queries.residuals, queries.scales))
        )
        found = exact_search(asked, self._items, self.rows, wide).view(len(places), t, wide).numpy()
        words = admitted.bits.flatten(1).numpy()
        short = []
        for i, of_query in zip(places, found, strict=True):
            passed = (words[i][of_query >> 6] >> (of_query & 63)) & 1 != 0
            wanted = min(int(candidates[i]), counts[i])
            if int(passed.sum(1).min()) < wanted:
                short.append(i)
                continue
            for task in range(t):
                kept = of_query[task][passed[task]][:wanted]
                positions[i, task, :wanted] = torch.from_numpy(kept)
        return short

    def _among_survivors(
        self, queries: Quantized, bits: Tensor, candidates: int, i: int, positions: Tensor
    ) -> None:
        survivors = torch.nonzero(unpack(bits, self.rows.numel())).squeeze(1)
        one = Quantized(*(x[i : i + 1] for x in (queries.codes, queries.residuals, queries.scales)))
        compared = rescore(one, self._items, survivors.unsqueeze(0))[0]
        order = keys(compared, self.rows[survivors].long().expand_as(compared))
        wanted = min(candidates, len(survivors))
        best = torch.topk(order, wanted, dim=1).indices
        positions[i, :, :wanted] = survivors[best]
