"""How `run.py` measures a row: latencies of batches, bytes that a batch needs, recall by brute force."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.bytes import centroid_bytes, item_bytes, residual_item_bytes
from benchmarks.gpu.cases import Case
from benchmarks.gpu.world import World, expression, with_budget
from meshfold.kernels.filter.bundles import cardinality, unpack
from meshfold.kernels.filter.mask import filter_mask
from meshfold.kernels.filter.steps import FilterBatch, Op
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.probe import probe_order
from meshfold.kernels.search.tensors import Found, Limits
from meshfold.kernels.vectors.quantize import Quantized, dequantize
from meshfold.model.batch import QueryBatch, Results, UserBatch
from meshfold.model.config import Merge
from meshfold.model.index.ivf import RESCORED_PER_RESULT
from meshfold.model.inputs import HISTORY, PAD
from meshfold.model.program import Program
from meshfold.model.ranking import ProgramRanking, SimilarityRanking
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import Schema
from meshfold.model.user import HistoryMean
from meshfold.model.value.config import ValueConfig
from meshfold.model.value.formulas import padded
from meshfold.model.value.module import ValueModel
from meshfold.model.value.program import compile_formulas

RESULTS = 1000
# Batches of other users that take turns, so that no row measures a warm cache.
TURNS = 8
ALL_CLUSTERS = 2**62
_ORACLE_QUERIES, _CHUNK = 16, 1 << 20
# Largest difference by 16-bit values and another order of sums, relative to the operands' norms.
_TIE = 1e-5


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case on a world: model and batches on the device. budget: survivors that a query scores at least."""

    world: World
    case: Case
    model: RetrievalModel
    batches: list[QueryBatch]
    budget: int

    def search(self, batch: QueryBatch) -> Found:
        """The part that filters, probes, scans and compares pools."""
        return self.model.index.search(
            batch.users.query_vectors,
            self.model.filter.tensors(),
            batch.filters,
            batch.candidates,
            batch.most_candidates,
        )


def prepare(world: World, case: Case, over_arch: Program) -> Prepared:
    batches = [_batch(world, case, turn) for turn in range(TURNS)]
    budget = _budget(world, case, batches[0])
    n, device = world.items, world.device
    model = RetrievalModel(
        HistoryMean(1),
        world.filter,
        with_budget(world.index, budget),
        ProgramRanking(over_arch) if case.over_arch else SimilarityRanking(),
        ValueModel(),
        [],
        torch.arange(n, dtype=torch.int32, device=device),
        torch.zeros(n, device=device),
        Merge.UNION,
    ).eval()
    return Prepared(world, case, model, batches, budget)


def on_host(prepared: Prepared, world: World, over_arch: Program) -> Prepared:
    """The same on the CPU, where `world` is."""
    moved = prepare(world, prepared.case, over_arch)
    batches = [to_host(batch) for batch in prepared.batches[:1]]
    model = RetrievalModel(
        moved.model.user,
        moved.model.filter,
        with_budget(world.index, prepared.budget),
        *(moved.model.ranking, moved.model.value, [], moved.model.popular, moved.model.popularity),
        Merge.UNION,
    ).eval()
    return Prepared(world, prepared.case, model, batches, prepared.budget)


def to_host(batch: QueryBatch) -> QueryBatch:
    moved: QueryBatch = _each(batch, Tensor.cpu)
    return moved


def first_of(batch: QueryBatch, queries: int) -> QueryBatch:
    first: QueryBatch = _each(batch, lambda tensor: tensor[:queries])
    return first


def _each(held: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch, and what it holds, with each tensor changed."""
    parts = {f.name: getattr(held, f.name) for f in fields(held)}
    changed = {name: change(part) for name, part in parts.items() if isinstance(part, Tensor)}
    changed |= {name: _each(part, change) for name, part in parts.items() if is_dataclass(part)}
    return replace(held, **changed)


def _batch(world: World, case: Case, turn: int) -> QueryBatch:
    b, device = case.batch, world.device
    compiler = world.compiler()
    first = turn * b
    programs = [compiler.compile(expression(first + i) if case.filtered else None) for i in range(b)]
    values = compile_formulas(Schema("gpu", (), ("watch",)), ValueConfig(), ranked=case.over_arch)
    value_steps, value_constants = padded([values.prepare("", {}, {})] * b)

    def rows(arrays: Sequence[np.ndarray[Any, np.dtype[np.int64]]], filler: int) -> Tensor:
        longest = max(len(a) for a in arrays)
        out = np.full((b, longest, *arrays[0].shape[1:]), filler, np.int64)
        for row, array in zip(out, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(out).to(device)

    def of_each(value: int) -> Tensor:
        return torch.full((b,), value, dtype=torch.int64, device=device)

    k = min(case.k, world.items)
    return QueryBatch(
        users=UserBatch(
            query_vectors=world.users(b, 100 + turn).unsqueeze(1),
            has_vector=torch.ones(b, dtype=torch.bool, device=device),
            history_positions=torch.full((b, HISTORY), -1, device=device),
            history_ids=torch.full((b, HISTORY), PAD, device=device),
            inputs={},
            has_input=torch.zeros(b, dtype=torch.bool, device=device),
        ),
        filters=FilterBatch(
            steps=rows([p.steps for p in programs], int(Op.NOOP)),
            values=rows([p.values for p in programs], 0),
            value_rows=rows([p.value_rows for p in programs], 0),
            excluded=torch.empty((b, 0), dtype=torch.int64, device=device),
        ),
        candidates=of_each(k),
        max_results=of_each(min(RESULTS, k)),
        value_steps=torch.from_numpy(value_steps).to(device),
        value_constants=torch.from_numpy(value_constants).to(device),
        cap_field=of_each(-1),
        cap_limit=of_each(0),
        explain=torch.zeros(b, dtype=torch.bool, device=device),
        most_candidates=k,
        capped=False,
    )


def _budget(world: World, case: Case, batch: QueryBatch) -> int:
    """The median of the survivors in as many clusters as the case wants opened: a query opens clusters until it has
    met its budget, so that half of the queries open that many at most."""
    index, b = world.index, case.batch
    limits = Limits(
        torch.full((b,), ALL_CLUSTERS, device=world.device),
        torch.full((b,), case.probes, device=world.device),
        torch.zeros(b, dtype=torch.int64, device=world.device),
        rescored=1,
    )
    vectors, filter_ = batch.users.query_vectors, world.filter.tensors()
    found = search(vectors, index.tensors(), filter_, batch.filters, limits, 0)
    return max(1, int(found.scored.double().median()))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def latencies_ms(
    run: Callable[[QueryBatch], object], prepared: Prepared, seconds: float, at_least: int
) -> list[float]:
    """Latencies of batches in turn, one at a time, after two calls that warm up."""
    device = prepared.world.device
    for batch in prepared.batches[: min(2, at_least)]:
        run(batch)
    synchronize(device)
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(taken) < at_least or time.perf_counter() < end_s:
        batch = prepared.batches[len(taken) % len(prepared.batches)]
        start_s = time.perf_counter()
        run(batch)
        synchronize(device)
        taken.append((time.perf_counter() - start_s) * 1e3)
    return taken


def copy_bytes_per_s(device: torch.device, size_bytes: int) -> float:
    """Bandwidth of a copy within the device: each byte is read and written."""
    source = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    taken = []
    for _ in range(12):
        synchronize(device)
        start_s = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        taken.append(time.perf_counter() - start_s)
    return 2 * size_bytes / statistics.median(taken[2:])


@dataclass(frozen=True)
class Needed:
    """Bytes of the catalog that a batch needs, each counted once by what needs it. search: to filter, probe, scan and
    compare pools. whole: and those of candidates that are scored again. items: that any query of the batch scores."""

    search: float
    whole: float
    items: int


def needed(prepared: Prepared, batch: QueryBatch) -> Needed:
    world, index, case = prepared.world, prepared.model.index, prepared.case
    d, n = world.dimension, world.items
    found = prepared.search(batch)
    queries = index.quantize(batch.users.query_vectors).codes
    sizes = index.offsets.diff()
    read = torch.zeros(n if case.filtered else 0, dtype=torch.bool, device=world.device)
    union = torch.zeros_like(sizes, dtype=torch.bool)
    eligible = world.filter(batch.filters, torch.full_like(batch.explain, case.filtered))
    for i in range(case.batch):
        order = probe_order(
            queries[i : i + 1], index.centroids, index.centroid_units, index.centroid_spreads
        )[0, 0]
        opened = torch.zeros_like(union)
        opened[order[: int(found.opened[i, 0])]] = True
        union |= opened
        if case.filtered:
            of_items = torch.repeat_interleave(opened, sizes, output_size=n)
            read |= of_items & unpack(eligible.bits[i], n)
    items = int(read.sum()) if case.filtered else int(sizes[union].sum())
    filter_bytes = _filter_bytes(prepared, batch) if case.filtered else 0.0
    scanned = index.centroids.shape[0] * centroid_bytes(d) + filter_bytes + items * item_bytes(d)
    pooled = torch.minimum(found.scored, (batch.candidates * RESCORED_PER_RESULT).unsqueeze(1))
    searched = scanned + int(pooled.sum()) * residual_item_bytes(d)
    candidates = int((found.positions >= 0).sum())
    reads = 2 if case.over_arch else 1
    return Needed(searched, searched + candidates * residual_item_bytes(d) * reads, items)


def _filter_bytes(prepared: Prepared, batch: QueryBatch) -> float:
    """Rows of the signature that any program reads, and the columns of the items that they leave undecided."""
    world = prepared.world
    held = world.filter.tensors()
    rows: set[int] = set()
    by_columns: set[int] = set()
    undecided = torch.zeros_like(held.signature[:, 0])
    for i in range(prepared.case.batch):
        for op, field, first, many in batch.filters.steps[i].tolist():
            if op in (Op.MATCH, Op.PLANE):
                rows.update(batch.filters.value_rows[i, first : first + many].flatten().tolist())
            if op in (Op.MATCH, Op.RANGE):
                rows.add(field)
                by_columns.add(field)
        bounds = filter_mask(
            held.signature, batch.filters.steps[i : i + 1], batch.filters.value_rows[i : i + 1]
        )
        undecided |= bounds.maybe[0] & ~bounds.sure[0]
    left = int(cardinality(undecided.unsqueeze(0)))
    per_item = 0.0
    for field in by_columns:
        column, offsets = held.columns[field], held.offsets[field]
        per_item += column.element_size() * column.numel() / world.items + (8 if offsets.numel() else 0)
    return len(rows) * world.items / 8 + left * per_item


@dataclass(frozen=True)
class Judged:
    """recall: share of the exact best that are among the candidates. ineligible: candidates that do not pass."""

    recall: float
    depth: int
    ineligible: int


def judge(prepared: Prepared) -> Judged:
    """By brute force in torch, in float32, over the columns themselves."""
    world, case = prepared.world, prepared.case
    queries = min(_ORACLE_QUERIES, case.batch)
    batch = first_of(prepared.batches[0], queries)
    found = prepared.search(batch).positions[:, 0]
    vectors = batch.users.query_vectors[:, 0]
    passed = [world.passes(i) for i in range(queries)] if case.filtered else []
    depth = min(RESULTS, batch.most_candidates)
    worst, eligible = _exact(world, vectors, passed, depth)
    hits = total = ineligible = 0
    for i in range(queries):
        real = found[i][found[i] >= 0]
        if passed:
            ineligible += int((~passed[i][real]).sum())
        items = world.index.vectors(real)
        slack = _TIE * float(vectors[i].norm()) * float(items.norm(dim=1).max()) if len(real) else 0.0
        wanted = min(depth, eligible[i])
        hits += min(wanted, int((items @ vectors[i] >= worst[i] - slack).sum()))
        total += wanted
    return Judged(hits / max(total, 1), depth, ineligible)


def _exact(world: World, vectors: Tensor, passed: list[Tensor], depth: int) -> tuple[list[float], list[int]]:
    """(the score of the last of the exact best, how many items are eligible), of each query."""
    best = torch.empty((len(vectors), 0), device=world.device)
    for start in range(0, world.items, _CHUNK):
        part = slice(start, start + _CHUNK)
        index = world.index
        items = dequantize(Quantized(index.codes[part], index.residuals[part], index.units[part]))
        scores = vectors @ items.T
        for i, own in enumerate(passed):
            scores[i].masked_fill_(~own[part], -torch.inf)
        best = torch.cat([best, scores.topk(min(depth, scores.shape[1])).values], 1)
        best = best.topk(min(depth, best.shape[1])).values
    eligible = [int(own.sum()) for own in passed] or [world.items] * len(vectors)
    last = [float(best[i, min(depth, eligible[i]) - 1]) if eligible[i] else 0.0 for i in range(len(vectors))]
    return last, eligible


def differences(here: Prepared, host: Prepared, queries: int) -> list[str]:
    """Differences between a device's answers and the CPU's, for the first queries of a batch; none are expected."""
    mine, theirs = (first_of(side.batches[0], queries) for side in (here, host))
    found, reference = here.search(mine), host.search(theirs)
    case = here.case.name(here.world.items)
    told = [
        f"{case}: {name} of the search"
        for name in ("positions", "similarities", "opened", "scored", "sampled")
        if not torch.equal(getattr(found, name).cpu(), getattr(reference, name))
    ]
    if not here.case.over_arch:
        answers: Results = here.model(mine)
        wanted: Results = host.model(theirs)
        told += [
            f"{case}: {name} of the results"
            for name in ("positions", "values", "similarities")
            if not torch.equal(getattr(answers, name).cpu(), getattr(wanted, name))
        ]
    return told
