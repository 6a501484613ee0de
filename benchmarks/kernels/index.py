"""Our side of `compare.py`: a published snapshot, and the same items in lists that a peer clustered.

What is timed is all that a query vector takes: searched with its filter evaluated inside, from the float vector to
candidates in the order of their similarities, and positions turned to ids. Programs are compiled before, as the
server does before a forward pass.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.kernels.data import Data, Terms, expression
from meshfold.kernels.filter.bundles import ITEMS
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op, PostingLists
from meshfold.kernels.native import library
from meshfold.kernels.search.coarse import pack_coarse
from meshfold.kernels.search.ivf_reference import search_reference
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found, IvfTensors, Limits
from meshfold.kernels.vectors.quantize import quantize
from meshfold.model.build import publish
from meshfold.model.config import IndexConfig
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.filter.expression import Expression
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.huge_pages import in_huge_pages, interleaved
from meshfold.model.index.kmeans import Centroids
from meshfold.model.index.numbering import side_by_side
from meshfold.model.progress import Progress
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.snapshot import LISTS, Snapshot
from meshfold.model.store import Store
from meshfold.model.types import Float32s, Int64s

SURFACE = "kernels"


@dataclass(frozen=True)
class Setting:
    """probes: clusters to open at most. budget: survivors to score, unless there are fewer. rescored: survivors that
    are compared from 16 bits for each result wanted."""

    probes: int
    budget: int
    rescored: float

    def __str__(self) -> str:
        limit = f"{self.probes} clusters" if self.budget == EVERY else f"budget {self.budget}"
        return f"{limit}, {self.rescored:g} k re-scored"


# More than any catalog here holds: the clusters alone limit what is scored.
EVERY = 1 << 40


@dataclass(frozen=True, eq=False)
class Prepared:
    """Queries before the clock starts: vectors: [B, 1, D] float32, programs and limits."""

    vectors: Tensor
    programs: FilterBatch
    limits: Limits
    k: int


class Index:
    """An index with its filter, in the order of its own positions."""

    def __init__(self, ivf: IvfTensors, filter_: FilterTensors, compiler: FilterCompiler) -> None:
        # Position -1 reads the last.
        self._ids: npt.NDArray[np.int32] = np.append(ivf.rows.numpy(), np.int32(-1))
        self.ivf = replace(ivf, rows=torch.from_numpy(self._ids[:-1]))
        self.filter = filter_
        self._compiler = compiler

    def prepare(self, vectors: Float32s, terms: Sequence[Terms], k: int, setting: Setting) -> Prepared:
        b, n = len(vectors), self.ivf.codes.shape[0]

        def of_all(value: int) -> Tensor:
            return torch.full((b,), value, dtype=torch.int64)

        # A fraction: the next integer times fewer results.
        rescored, candidates = math.ceil(setting.rescored), min(k, n)
        limits = Limits(
            of_all(min(setting.budget, n)),
            of_all(min(setting.probes, self.ivf.centroids.shape[0])),
            of_all(candidates),
            rescored,
            max_results=of_all(math.ceil(candidates * setting.rescored / rescored)),
        )
        programs = self.compiled([expression(t) for t in terms])
        return Prepared(torch.from_numpy(vectors).unsqueeze(1), programs, limits, k)

    def compiled(self, filters: Sequence[Expression | None]) -> FilterBatch:
        """The filters of a batch, padded."""
        compiled = [self._compiler.compile(filter_) for filter_ in filters]
        length, count, width = (
            max(p.steps.shape[0] for p in compiled),
            max(p.values.shape[0] for p in compiled),
            max(p.value_rows.shape[1] for p in compiled),
        )
        steps = torch.full((len(filters), length, 4), int(Op.NOOP))
        values = torch.zeros((len(filters), count), dtype=torch.int64)
        rows = torch.zeros((len(filters), count, width), dtype=torch.int64)
        for i, program in enumerate(compiled):
            steps[i, : len(program.steps)] = torch.from_numpy(program.steps)
            values[i, : len(program.values)] = torch.from_numpy(program.values)
            if len(program.values):
                missing = width - program.value_rows.shape[1]
                repeated = np.pad(program.value_rows, ((0, 0), (0, missing)), mode="edge")
                rows[i, : len(program.values)] = torch.from_numpy(repeated)
        return FilterBatch(steps, values, rows, torch.empty((len(filters), 0), dtype=torch.int64))

    def answer(self, prepared: Prepared, run: Callable[..., Found] = search) -> npt.NDArray[np.int32]:
        """[B, k] int32 - ids, best first, -1 after the last. This is what the clock sees."""
        p = prepared
        found = run(p.vectors, self.ivf, self.filter, p.programs, p.limits, p.k)
        ids: npt.NDArray[np.int32] = self._ids[found.positions.numpy()[:, 0]]
        return ids


class Reference:
    """The plain torch reference of an index's search; its setting is the number of clusters to open."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def prepare(self, vectors: Float32s, terms: Sequence[Terms], k: int, probes: int) -> Prepared:
        return self._index.prepare(vectors, terms, k, Setting(probes, EVERY, 2))

    def answer(self, prepared: Prepared) -> npt.NDArray[np.int32]:
        with library.forced("reference"):
            return self._index.answer(prepared, search_reference)


def published(data: Data, progress: Progress) -> Snapshot:
    """The data at default settings, built anew: what an older build wrote is not what is measured."""
    shutil.rmtree(data.folder / "store", ignore_errors=True)
    n, d = data.vectors.shape
    fields = tuple(Field(name, FieldKind.INTEGER) for name in data.columns)
    columns = {
        name: Column(FieldKind.INTEGER, np.arange(n + 1), column.astype(np.int64))
        for name, column in data.columns.items()
    }
    schema = Schema(SURFACE, fields, ("watch",), generated=True)
    starts = range(0, n, 65_536)
    catalog = Catalog(
        schema, np.arange(n), columns, lambda: (data.vectors[s : s + 65_536] for s in starts), d
    )
    return Snapshot.open(publish(catalog, Store(data.folder / "store"), IndexConfig(), progress), SURFACE)


def default_index(snapshot: Snapshot) -> Index:
    """The index as it was published. Its tensors lie in memory as those of a server do, and the peers'."""
    made = ("codes", "residuals", "coarse")
    names = [field.name for field in fields(IvfTensors) if field.name not in made]
    # A snapshot's files say units where the code says scales.
    stored = {name: snapshot.index[name.replace("scales", "units")].clone() for name in names}
    codes, residuals = interleaved([snapshot.index["codes"], snapshot.index["residuals"]])
    ivf = IvfTensors(**stored, codes=codes, residuals=residuals, coarse=in_huge_pages(pack_coarse(codes)))
    columns, offsets = snapshot.columns()
    filter_ = FilterTensors(
        snapshot.filter["signature"].clone(),
        [c.clone() for c in columns],
        [o.clone() for o in offsets],
        PostingLists(*(snapshot.filter[name].clone() for name in LISTS)),
    )
    return Index(ivf, filter_, _compiler(snapshot))


def index_in_lists(snapshot: Snapshot, centroids: Float32s, members: Int64s) -> Index:
    """The same items in given lists, numbered as a build numbers its own. centroids: [C, D] float32, members: [N]
    int64 - the list of each item."""
    by_row = torch.argsort(snapshot.index["rows"].long())
    quantized = quantize(torch.from_numpy(centroids))
    lists = Centroids(quantized.codes, quantized.scales)
    order_of_lists = side_by_side(lists, 0)
    lists = lists.in_order(order_of_lists)
    members = np.argsort(order_of_lists.numpy())[members]
    order = np.argsort(members, kind="stable")
    at = by_row[torch.from_numpy(order)]
    sizes = np.bincount(members, minlength=len(centroids))
    codes, residuals = interleaved([snapshot.index[name][at] for name in ("codes", "residuals")])
    ivf = IvfTensors(
        centroids=lists.codes,
        centroid_scales=lists.scales,
        # Plain order by the centroid's score, as the peer has it.
        centroid_spreads=torch.zeros(len(centroids)),
        offsets=torch.from_numpy(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])),
        codes=codes,
        residuals=residuals,
        scales=snapshot.index["units"][at],
        rows=torch.from_numpy(order.astype(np.int32)),
        coarse=in_huge_pages(pack_coarse(codes)),
    )
    columns, _ = snapshot.columns()
    filter_ = FilterTensors(
        _moved(snapshot.filter["signature"], at),
        [column[at] for column in columns],
        [torch.empty(0, dtype=torch.int64)] * len(columns),
        _lists_moved(snapshot.lists(), at),
    )
    return Index(ivf, filter_, _compiler(snapshot))


def _moved(signature: Tensor, at: Tensor) -> Tensor:
    """The signature of the same items in another order. signature: [G, R, 8] int64, at: [N] int64 - positions."""
    rows = signature.shape[1]
    bits = np.unpackbits(signature.numpy().view(np.uint8), axis=-1, bitorder="little")
    by_item = np.ascontiguousarray(bits.transpose(0, 2, 1)).reshape(-1, rows)
    moved = np.zeros_like(by_item)
    moved[: len(at)] = by_item[at.numpy()]
    by_row = np.ascontiguousarray(moved.reshape(-1, ITEMS, rows).transpose(0, 2, 1))
    return torch.from_numpy(np.packbits(by_row, axis=-1, bitorder="little").view(np.int64))


def _lists_moved(lists: PostingLists, at: Tensor) -> PostingLists:
    """The posting lists of the same items in another order. at: [N] int64 - positions."""
    to = torch.empty_like(at)
    to[at] = torch.arange(at.numel())
    owner = torch.repeat_interleave(lists.offsets.diff())
    by_list = torch.sort(owner << 32 | to[lists.positions.long()]).values
    return replace(lists, positions=(by_list & 0xFFFF_FFFF).int())


def _compiler(snapshot: Snapshot) -> FilterCompiler:
    return FilterCompiler(snapshot.schema, snapshot.vocabularies(), snapshot.layout())
