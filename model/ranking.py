"""Ranking modules, which map user, items and similarities to one score for each task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from meshfold.kernels.native import library
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model.config import Precision
from meshfold.model.program import Program

# Fixed number of candidates that an OverArch scores at once.
TILE = 2048
# Most candidates of a listwise OverArch, which takes all of a query at once.
MOST_LISTWISE = 16_384
# Candidates of an OverArch that scores row by row are padded to a multiple of this: whole registers of our kernel.
_ROWS = 64
_LARGEST = torch.finfo(torch.float32).max

# positions: [n] int64 -> [n, D] float32, vectors of items as the index holds them.
ItemVectors = Callable[[Tensor], Tensor]
# positions: [n] int64 -> codes: [n, D] int8, peaks: [n] float32 - the largest magnitude of a vector.
ItemCodes = Callable[[Tensor], tuple[Tensor, Tensor]]


class SimilarityRanking(nn.Module):
    """The ranking of a snapshot without an OverArch: a task's score is its similarity."""

    def forward(
        self,
        user_vectors: Tensor,
        positions: Tensor,
        similarities: Tensor,
        item_vectors: ItemVectors,
        item_codes: ItemCodes | None = None,
    ) -> Tensor:
        """[B, T, K] float32. similarities: [B, T, K] float32; the others are not read."""
        return similarities


class ProgramRanking(nn.Module):
    """A published OverArch, run for one user at a time and a fixed number of candidates, so that scores do not depend
    on the batch: a TILE, or all of them where our own kernel multiplies. A listwise one gets all candidates of a query
    in one call.

    precision: INT8 has the linear layers multiply in integers, and take items as codes.
    """

    def __init__(self, program: Program, precision: Precision = Precision.FLOAT32) -> None:
        super().__init__()
        self._listwise = listwise_of(program)
        if precision is Precision.INT8:
            program.use_integers()
        # The part that depends on the user alone is computed once for all candidates.
        self._of_user, self._of_items = program.halves()
        self._row_by_row = not self._listwise and self._of_items.row_by_row((1, 2))
        # Items come before the similarities, and before which candidates of a list are there.
        self._takes_codes = self._of_items.take_codes(-3 if self._listwise else -2)

    def forward(
        self,
        user_vectors: Tensor,
        positions: Tensor,
        similarities: Tensor,
        item_vectors: ItemVectors,
        item_codes: ItemCodes | None = None,
    ) -> Tensor:
        """[B, T, K] float32; NaN becomes 0.

        user_vectors: [B, T, D] float32. positions: [B, K] int64. similarities: [B, T, K] float32. item_codes: None
        where only vectors are at hand, which give the same scores.
        """
        items_at: Callable[[Tensor], tuple[Tensor, ...]] = lambda at: (item_vectors(at),)  # noqa: E731
        if self._takes_codes:
            items_at = item_codes or (lambda at: _codes_of(item_vectors(at)))
        if self._listwise:
            together = self._together(user_vectors, positions, similarities, items_at)
            return together.nan_to_num(0.0, _LARGEST, -_LARGEST)
        k = positions.shape[1]
        tile = TILE
        if self._row_by_row and user_vectors.is_cpu and library.is_available():
            tile = max(1, -(-k // _ROWS)) * _ROWS
        tiles = max(1, -(-k // tile))
        padded, given = positions, similarities
        if tiles * tile > k:
            padded = nn.functional.pad(positions, (0, tiles * tile - k), value=-1)
            given = nn.functional.pad(similarities, (0, tiles * tile - k))
        rows = []
        for b in range(positions.shape[0]):
            of_user = self._of_user(user_vectors[b : b + 1])
            items = items_at(padded[b : b + 1])
            scores = [
                self._of_items(
                    *of_user,
                    *(part[:, start : start + tile] for part in items),
                    given[b : b + 1, :, start : start + tile].contiguous(),
                )
                for start in range(0, tiles * tile, tile)
            ]
            rows.append(_joined(scores, 2)[:, :, :k])
        return _joined(rows, 0).nan_to_num(0.0, _LARGEST, -_LARGEST)

    def _together(
        self,
        user_vectors: Tensor,
        positions: Tensor,
        similarities: Tensor,
        items_at: Callable[[Tensor], tuple[Tensor, ...]],
    ) -> Tensor:
        """[B, T, K] float32: the scores of a listwise OverArch. It gets the most similar candidates first, so that
        their order changes nothing, and as many as it takes; those beyond have the lowest score."""
        most = self._listwise
        rows = []
        for b in range(positions.shape[0]):
            at, given = positions[b], similarities[b]
            order = torch.argsort(at)
            best = given.amax(0).masked_fill(at < 0, -torch.inf)[order]
            order = order[torch.argsort(best, descending=True, stable=True)][:most]
            missing = most - order.shape[0]
            places = nn.functional.pad(at[order], (0, missing), value=-1).unsqueeze(0)
            present = places >= 0
            items = [
                torch.where(
                    present.view(present.shape + (1,) * (part.dim() - 2)), part, torch.zeros_like(part)
                )
                for part in items_at(places)
            ]
            beside = nn.functional.pad(given[:, order], (0, missing)).unsqueeze(0)
            beside = torch.where(present.unsqueeze(1), beside, 0.0)
            scores = self._of_items(*self._of_user(user_vectors[b : b + 1]), *items, beside, present)
            lowest = torch.full_like(given, -_LARGEST)
            rows.append(lowest.index_copy(1, order, scores[0, :, : order.shape[0]]))
        return torch.stack(rows)


def listwise_of(program: Program) -> int:
    """The number of candidates that an OverArch's program takes as a list; 0 where it scores each alone.

    A listwise one takes a fourth input: which candidates are there.
    """
    inputs = program.signature.inputs
    return inputs[1].shape[1] if len(inputs) == 4 and len(inputs[1].shape) == 3 else 0


def _codes_of(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and peaks of vectors, as the index that they came from has them. vectors: [..., D] float32."""
    return quantize(vectors).codes, vectors.abs().amax(-1)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    """cat, which copies one part, too."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
