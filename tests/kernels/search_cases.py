"""What a kernel is asked in hard_cases.py, how such a case is made and run, and when two answers are equal."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meshfold.kernels.filter.steps import FilterBatch, FilterTensors
from meshfold.kernels.search.coarse import pack_coarse
from meshfold.kernels.search.ivf_reference import search_reference
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from tests.kernels.hard_filters import (
    ALL,
    Filter,
    filter_tensors,
    programs,
)

HUGE = 2**62


@dataclass(frozen=True, eq=False)
class SearchCase:
    """The arguments of kernels/search/ivf_search.py."""

    vectors: Tensor
    ivf: IvfTensors
    filter: FilterTensors
    programs: FilterBatch
    limits: Limits
    k: int

    def of(self, i: int) -> SearchCase:
        """Query i alone, without what the others' sizes padded it with."""
        one = slice(i, i + 1)
        p, limits = self.programs, self.limits
        length = int(torch.nonzero(p.steps[i, :, 0])[-1]) + 1
        named = p.excluded[i][p.excluded[i] >= 0]
        return SearchCase(
            self.vectors[one],
            self.ivf,
            self.filter,
            FilterBatch(p.steps[one, :length], p.values[one], p.value_rows[one], named.unsqueeze(0)),
            Limits(
                *(limits.budget[one], limits.probes[one], limits.candidates[one], limits.rescored),
                max_results=None if limits.max_results is None else limits.max_results[one],
            ),
            int(limits.candidates[i]),
        )


def int8(rng: np.random.Generator, shape: tuple[int, ...], codes: str) -> Tensor:
    """Codes of a kind: few (many dots tie), any, ends (the largest of either sign), zero."""
    drawn: npt.NDArray[np.generic]
    if codes == "few":
        drawn = rng.integers(-2, 3, shape)
    elif codes == "any":
        drawn = rng.integers(-127, 128, shape)
    elif codes == "ends":
        drawn = rng.choice(np.array([-127, 127, -128, 126]), shape, p=[0.49, 0.49, 0.01, 0.01])
    else:
        drawn = np.zeros(shape)
    return torch.from_numpy(drawn.astype(np.int8))


def ivf_tensors(rng: np.random.Generator, sizes: Sequence[int], d: int, codes: str = "few") -> IvfTensors:
    """sizes: of the clusters. Units of 0, 1e-45, 0.5, 1 and 2, so that scores tie, are of either zero, or subnormal."""
    n, c = sum(sizes), len(sizes)
    # Nothing in the low bytes of few codes: similarities tie, too.
    low = "zero" if codes == "few" else codes
    own, residuals = int8(rng, (n, d), codes), int8(rng, (n, d), low)
    if n % 2:
        # As a server has them.
        own, residuals = torch.stack([own, residuals], 1).unbind(1)
    scales = np.array([0, 1e-45, 0.5, 1, 2], np.float32)
    return IvfTensors(
        centroids=int8(rng, (c, d), codes),
        centroid_scales=torch.from_numpy(rng.choice(scales[2:], c)),
        centroid_spreads=torch.from_numpy(rng.choice(np.array([0, 0.25, 3], np.float32), c)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
        codes=own,
        residuals=residuals,
        scales=torch.from_numpy(rng.choice(scales, n, p=[0.05, 0.05, 0.3, 0.3, 0.3])),
        rows=torch.from_numpy(rng.permutation(n).astype(np.int32)),
        coarse=pack_coarse(own),
    )


def vectors_of(rng: np.random.Generator, shape: tuple[int, ...], codes: str) -> Tensor:
    """Vectors whose codes are of a kind, with something in their low bytes where items have."""
    vectors = int8(rng, shape, codes).float()
    if codes in ("any", "ends"):
        vectors += torch.from_numpy(rng.uniform(-0.5, 0.5, shape).astype(np.float32))
    return vectors


def search_case(
    sizes: Sequence[int],
    d: int = 16,
    *,
    tasks: int = 1,
    filters: Sequence[Filter] = (ALL,),
    excluded: Sequence[Sequence[int]] = (),
    budget: Sequence[int] = (100,),
    probes: Sequence[int] = (HUGE,),
    depth: Sequence[int] = (20,),
    rescored: int = 2,
    wanted: Sequence[int] | None = None,
    k: int | None = None,
    codes: str = "few",
    rare: bool = False,
    seed: int = 0,
) -> SearchCase:
    """A query for each filter; budgets, probes and depths come again where they are fewer. k: the largest depth.
    rare: whether items hold rare values; hard_filters.py."""
    rng = np.random.default_rng(seed)
    b = len(filters)

    def of_each(values: Sequence[int]) -> Tensor:
        return torch.from_numpy(np.resize(values, b).astype(np.int64))

    return SearchCase(
        vectors=vectors_of(rng, (b, tasks, d), codes),
        ivf=ivf_tensors(rng, sizes, d, codes),
        filter=filter_tensors(rng, sum(sizes), rare),
        programs=programs(filters, excluded),
        limits=Limits(
            *(of_each(budget), of_each(probes), of_each(depth), rescored),
            max_results=None if wanted is None else of_each(wanted),
        ),
        k=max(depth) if k is None else k,
    )


def sparse(items: int, d: int) -> Tensor:
    """[items, d] int8 of zeros that take no memory until they are written."""
    flags = (
        mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
    )  # MAP_NORESERVE, which the module names from 3.13 on
    return torch.frombuffer(mmap.mmap(-1, items * d, flags=flags), dtype=torch.int8).view(items, d)


def run(case: SearchCase) -> Found:
    return search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


def run_reference(case: SearchCase) -> Found:
    return search_reference(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


def without_lists(case: SearchCase) -> SearchCase:
    """Values are told by Bloom rows and columns."""
    return replace(case, filter=replace(case.filter, lists=None))


def assert_equal(got: Found, wanted: Found) -> None:
    for field in fields(Found):
        left, right = getattr(got, field.name), getattr(wanted, field.name)
        assert left.dtype == right.dtype
        assert torch.equal(left, right), field.name
