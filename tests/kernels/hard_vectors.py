"""Vectors, codes and places on which the kernels of builds and re-scoring go wrong; see hard_cases.py.

A case is a public operation and its arguments, made when it is asked for: CASES names each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.search.rescore import rescore
from meshfold.kernels.vectors.assign import assign
from meshfold.kernels.vectors.cluster_sums import FACTOR_MAX, cluster_sums
from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import FINE_MAX, Quantized, quantize
from tests.kernels.far_cases import FAR_DIMENSION, FAR_ITEMS
from tests.kernels.search_cases import int8, sparse

Case = tuple[Callable[..., Any], tuple[Any, ...]]

DIMENSIONS = (1, 2, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 768, 1024, 1025)
# Beyond 2^16 a total of codes may leave int32.
WIDE = (65_536, 65_537)
_LARGEST = float(torch.finfo(torch.float32).max)
_SMALLEST = 1e-45


def tensors(result: Any) -> list[Tensor]:
    """What an operation gives, one tensor or several, as a list."""
    if isinstance(result, Tensor):
        return [result]
    return list(result) if isinstance(result, tuple) else list(vars(result).values())


def vectors(shape: tuple[int, ...], seed: int = 0) -> Case:
    """Normal ones, each scaled by a power of two of its own, from subnormal to nearly infinite."""
    rng = np.random.default_rng(seed)
    scales = np.exp2(rng.integers(-149, 125, (*shape[:-1], 1)).astype(np.float64))
    drawn = np.clip(rng.standard_normal(shape), -4, 4)
    return quantize, (torch.from_numpy((drawn * scales).astype(np.float32)),)


def halfway() -> Case:
    """Values that lie between two fine values, and their float32 neighbours."""
    halves = torch.arange(-600, 600, dtype=torch.float32) + 0.5
    up, down = (torch.nextafter(halves, torch.tensor(end)) for end in (torch.inf, -torch.inf))
    together = torch.stack([halves, up, down])
    return quantize, (torch.cat([together, torch.full((3, 1), float(FINE_MAX))], 1),)


def ends_of_float32() -> Case:
    ends = [0.0, -0.0, _SMALLEST, -_SMALLEST, 1.2e-38, 1.0, -1.0, _LARGEST, -_LARGEST]
    return quantize, (torch.tensor([[a, b, 0.0] for a in ends for b in ends]),)


def quantized(rng: np.random.Generator, shape: tuple[int, ...], codes: str) -> Quantized:
    """Any codes and residuals that can come; scales of 0, subnormal, ordinary, and so large that products overflow."""
    scales = np.array([0, _SMALLEST, 1e-20, 0.003, 1, 7e15, 1e34], np.float32)
    residuals = np.array([-128, 127], np.int8) if codes == "ends" else np.arange(-128, 128).astype(np.int8)
    return Quantized(
        int8(rng, shape, codes),
        torch.from_numpy(rng.choice(residuals, shape)),
        torch.from_numpy(rng.choice(scales, shape[:-1])),
    )


def rescored(b: int, t: int, n: int, d: int, m: int, codes: str = "any") -> Case:
    """Positions more than once, and -1 between them."""
    rng = np.random.default_rng(d + m)
    positions = torch.from_numpy(rng.integers(-1, n, (b, m)))
    return rescore, (quantized(rng, (b, t, d), codes), quantized(rng, (n, d), codes), positions)


def largest_totals(d: int) -> Case:
    """Codes and residuals all at their ends, of either sign."""
    codes = torch.tensor([127, 127, -127, -128], dtype=torch.int8).unsqueeze(1).expand(-1, d).contiguous()
    residuals = (
        torch.tensor([127, -128, -128, -128], dtype=torch.int8).unsqueeze(1).expand(-1, d).contiguous()
    )
    items = Quantized(codes, residuals, torch.ones(4))
    queries = Quantized(codes.unsqueeze(0), residuals.unsqueeze(0), torch.ones((1, 4)))
    return rescore, (queries, items, torch.tensor([[0, 1, 2, 3, 0]]))


def rescored_far() -> Case:
    rng = np.random.default_rng(0)
    return rescore, (
        quantized(rng, (2, 2, FAR_DIMENSION), "any"),
        _far_items(rng),
        _far_positions().expand(2, -1),
    )


def gathered(n: int, d: int, shape: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(d)
    return item_vectors, (quantized(rng, (n, d), "any"), torch.from_numpy(rng.integers(-1, n, shape)))


def gathered_far() -> Case:
    return item_vectors, (_far_items(np.random.default_rng(0)), _far_positions())


def assigned(n: int, c: int, d: int, codes: str = "any", largest: float = 1.0) -> Case:
    rng = np.random.default_rng(n + c + d)
    scales = np.array([0, _SMALLEST, 0.25, 0.5, 1], np.float32) * np.float32(largest)
    return assign, (
        int8(rng, (n, d), codes),
        torch.from_numpy(rng.choice(scales, n)),
        int8(rng, (c, d), codes),
        torch.from_numpy(rng.choice(scales, c)),
    )


def assigned_to_copies() -> Case:
    """Each centroid comes three times: the first of its copies is the nearest."""
    rng = np.random.default_rng(0)
    centroids = int8(rng, (40, 48), "any").repeat(3, 1)
    return assign, (int8(rng, (700, 48), "any"), torch.ones(700), centroids, torch.ones(120))


def summed(n: int, c: int, d: int, factors: tuple[float, ...] = (0.5, 1, -0.5, 0.25, 1e-9)) -> Case:
    """Products halfway between integers among them."""
    rng = np.random.default_rng(n + c + d)
    return cluster_sums, (
        int8(rng, (n, d), "any"),
        torch.from_numpy(rng.choice(np.array(factors), n)),
        torch.from_numpy(rng.integers(0, c, n)),
        c,
    )


def _far_items(rng: np.random.Generator) -> Quantized:
    codes, residuals = sparse(FAR_ITEMS, FAR_DIMENSION), sparse(FAR_ITEMS, FAR_DIMENSION)
    codes[-1200:] = int8(rng, (1200, FAR_DIMENSION), "any")
    residuals[-1200:] = int8(rng, (1200, FAR_DIMENSION), "any")
    return Quantized(codes, residuals, torch.rand(FAR_ITEMS))


def _far_positions() -> Tensor:
    return torch.tensor([0, FAR_ITEMS - 1, -1, FAR_ITEMS - 700, 5, *range(FAR_ITEMS - 100, FAR_ITEMS)])


CASES: dict[str, Callable[[], Case]] = {
    "quantize: halfway": halfway,
    "quantize: ends of float32": ends_of_float32,
    "quantize: no vector": partial(vectors, (0, 8)),
    "quantize: one vector": partial(vectors, (8,)),
    "quantize: many": partial(vectors, (5000, 16)),
    **{f"quantize: D = {d}": partial(vectors, (3, 7, d), d) for d in DIMENSIONS},
    "rescore: no position": partial(rescored, 2, 2, 5, 8, 0),
    "rescore: a batch of 33": partial(rescored, 33, 2, 90, 24, 130),
    "rescore: many": partial(rescored, 1, 1, 3000, 64, 5001),
    "rescore: past 2 GiB": rescored_far,
    **{f"rescore: largest totals, D = {d}": partial(largest_totals, d) for d in (768, 65_537, 140_000)},
    **{f"rescore: {t} tasks": partial(rescored, 2, t, 50, 48, 77) for t in (1, 2, 3, 4, 5, 9)},
    **{
        f"rescore: D = {d}, {codes} codes": partial(rescored, 2, 2, 60, d, 65, codes)
        for d in DIMENSIONS
        for codes in ("any", "ends", "zero")
    },
    "item_vectors: one position": partial(gathered, 9, 8, ()),
    "item_vectors: no position": partial(gathered, 9, 8, (2, 0)),
    "item_vectors: past 2 GiB": gathered_far,
    **{f"item_vectors: D = {d}": partial(gathered, 70, d, (3, 67)) for d in DIMENSIONS},
    "assign: no item": partial(assigned, 0, 3, 8),
    "assign: copies of centroids": assigned_to_copies,
    "assign: only zeros": partial(assigned, 70, 5, 8, "zero"),
    "assign: few distinct codes": partial(assigned, 3000, 90, 3, "few"),
    "assign: large scales": partial(assigned, 600, 40, 32, "any", 1e15),
    "assign: distances past float32": partial(assigned, 600, 40, 32, "any", 1e33),
    **{f"assign: {c} clusters": partial(assigned, 130, c, 40) for c in (1, 2, 15, 16, 17, 33, 64, 65, 1000)},
    **{f"assign: {n} items": partial(assigned, n, 70, 40) for n in (1, 2, 7, 8, 9, 63, 64, 65, 513, 4097)},
    **{
        f"assign: D = {d}, {codes} codes": partial(assigned, 133, 37, d, codes)
        for d in DIMENSIONS
        for codes in ("any", "ends")
    },
    "cluster_sums: no item": partial(summed, 0, 3, 8),
    "cluster_sums: one cluster": partial(summed, 4000, 1, 33),
    "cluster_sums: largest factors": partial(summed, 3000, 4, 5, (FACTOR_MAX, -FACTOR_MAX)),
    "cluster_sums: more clusters than items": partial(summed, 90, 500, 20),
    **{f"cluster_sums: D = {d}": partial(summed, 700, 9, d) for d in DIMENSIONS},
    **{
        f"{name}: D = {d}, {codes} codes": partial(make, d, codes)
        for d in WIDE
        for codes in ("any", "ends")
        for name, make in {
            "quantize": lambda d, _: vectors((3, d)),
            "rescore": lambda d, codes: rescored(2, 2, 5, d, 7, codes),
            "item_vectors": lambda d, _: gathered(5, d, (6,)),
            "assign": lambda d, codes: assigned(9, 3, d, codes),
            "cluster_sums": lambda d, _: summed(9, 2, d),
        }.items()
    },
}
