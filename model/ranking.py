"""Ranking modules: scores of candidates for each task from user, items and similarities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from meshfold.kernels.native import library
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model.config import Precision
from meshfold.model.program import Program

# Number of candidates in one call of an OverArch.
TILE = 2048
# Limit of candidates of a listwise OverArch, which takes all candidates of a query in one call.
MOST_LISTWISE = 16_384
# An OverArch that scores row by row gets candidates padded to a multiple of this, which fills the kernel's registers.
_ROWS = 64
_LARGEST = torch.finfo(torch.float32).max

# positions: [n] int64 -> [n, D] float32, quantised vectors of items from the index.
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
        """[B, T, K] float32. similarities: [B, T, K] float32; other arguments are not read."""
        return similarities


class ProgramRanking(nn.Module):
    """A published OverArch. One call scores one user and a fixed number of candidates.

    That number is TILE, or all candidates where meshfold's own kernel multiplies, so that scores do not depend on the
    batch. A listwise OverArch gets all candidates of a query in one call. precision: INT8 switches linear layers to
    integer multiplication, with codes of items as input.
    """

    def __init__(self, program: Program, precision: Precision = Precision.FLOAT32) -> None:
        super().__init__()
        self._listwise = listwise_of(program)
        if precision is Precision.INT8:
            program.use_integers()
        # The part that depends on the user alone runs once for all candidates.
        self._of_user, self._of_items = program.halves()
        self._row_by_row = not self._listwise and self._of_items.row_by_row((1, 2))
        # Items are the input before the similarities, and before a list's mask of present candidates.
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
        computes codes from item_vectors, with the same scores.
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
        """[B, T, K] float32: the scores of a listwise OverArch.

        It gets its list in the order of similarity, so that the order of `positions` has no effect. Candidates beyond
        the list's length get the lowest score.
        """
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
    """The number of candidates in the list of an OverArch's program; 0 where it scores each candidate by itself.

    A listwise program has a fourth input: the mask of present candidates.
    """
    inputs = program.signature.inputs
    return inputs[1].shape[1] if len(inputs) == 4 and len(inputs[1].shape) == 3 else 0


def _codes_of(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and peaks of vectors, equal to those of the index that they came from. vectors: [..., D] float32."""
    return quantize(vectors).codes, vectors.abs().amax(-1)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    """torch.cat, without a copy of a single part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
