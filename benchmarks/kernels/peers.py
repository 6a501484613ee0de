"""The peers of `compare.py`: Faiss with filters as bitmaps, and pyroaring bitmaps with exact dots.

What is timed is all that a query takes, its filter included. Faiss reads a filter as an IDSelectorBitmap; its bytes
come from the columns by comparison, or from posting lists: whichever is faster for the filter at hand. It takes one
filter a call, so that queries of a batch with filters of their own are one call each, spread over the threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyroaring

from benchmarks.kernels.data import FILTERS, Data, Terms
from meshfold.model.types import Float32s, Int64s

Bytes = npt.NDArray[np.uint8]
_BIT = (1 << np.arange(8)).astype(np.uint8)
LISTS = 1024
_FEWEST_PER_LIST = 40  # below which k-means has too little to learn from


@dataclass(frozen=True)
class Setting:
    """code: of the items. probes: lists to open. refined: candidates for each result wanted that are scored again
    from float32 vectors, 0 for none."""

    code: str
    probes: int
    refined: float = 0

    def __str__(self) -> str:
        again = f", {self.refined:g} k refined" if self.refined else ""
        code = "" if self.code.startswith("SQ8") else f"{self.code}, "  # told by the system's name
        return f"{code}{self.probes} lists{again}"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Queries before the clock starts. vectors: [B, D] float32."""

    vectors: Float32s
    terms: Sequence[Terms]
    k: int
    setting: Setting | None


class Threads:
    """How many threads the peers use; calls of a batch are spread over workers of one thread each."""

    def __init__(self) -> None:
        self.count = 1
        self._workers: ThreadPoolExecutor | None = None

    def use(self, count: int) -> None:
        if self._workers is not None:
            self._workers.shutdown()
        self.count, self._workers = count, None
        faiss.omp_set_num_threads(count)
        if count > 1:
            self._workers = ThreadPoolExecutor(count, initializer=lambda: faiss.omp_set_num_threads(1))

    def map(self, call: Callable[[int], Int64s], calls: int) -> list[Int64s]:
        if calls == 1 or self._workers is None:
            return [call(i) for i in range(calls)]
        return list(self._workers.map(call, range(calls)))


class Postings:
    """Items by value as roaring bitmaps: the inverted index; and bytes of bitmaps from it or from columns."""

    def __init__(self, data: Data) -> None:
        self._columns = data.columns
        self._bytes = -(-len(data.vectors) // 8)
        self._bitmaps = {name: _bitmaps(column) for name, column in data.columns.items()}
        self._ways: dict[tuple[str, ...], Callable[[Terms], Bytes]] = {
            filter_.fields: self._faster(filter_.fields) for filter_ in FILTERS if filter_.fields
        }

    def ids(self, terms: Terms) -> npt.NDArray[np.uint32]:
        """The items that pass, ascending."""
        met = reduce(lambda a, b: a & b, (self._bitmaps[field][value] for field, value in terms))
        return np.frombuffer(met.to_array(), np.uint32)

    def bits(self, terms: Terms) -> Bytes:
        """The items that pass as Faiss reads them."""
        return self._ways[tuple(field for field, _ in terms)](terms)

    def ways(self) -> Mapping[str, str]:
        """By filter, where the bytes of its bitmaps come from."""
        return {
            " and ".join(fields): "columns" if way == self._by_columns else "postings"
            for fields, way in self._ways.items()
        }

    def _by_columns(self, terms: Terms) -> Bytes:
        (field, value), *others = terms
        passed = self._columns[field] == value
        for field, value in others:
            passed &= self._columns[field] == value
        return np.packbits(passed, bitorder="little")

    def _by_postings(self, terms: Terms) -> Bytes:
        ids = self.ids(terms)
        bits = np.zeros(self._bytes, np.uint8)
        np.bitwise_or.at(bits, ids >> 3, _BIT[ids & 7])
        return bits

    def _faster(self, fields: tuple[str, ...]) -> Callable[[Terms], Bytes]:
        taken: list[tuple[float, Callable[[Terms], Bytes]]] = []
        for way in (self._by_columns, self._by_postings):
            times = []
            for value in range(10):
                start_s = time.perf_counter()
                way(tuple((field, value) for field in fields))
                times.append(time.perf_counter() - start_s)
            taken.append((float(np.median(times)), way))
        return min(taken, key=lambda pair: pair[0])[1]


class Faiss:
    """IVF indices of one set of lists: SQ8, its uniform variant, and PQ fast-scan of 32, 64 and 128 bytes of codes."""

    def __init__(self, data: Data, postings: Postings, threads: Threads) -> None:
        self._postings, self._threads = postings, threads
        threads.use(os.cpu_count() or 1)
        self.lists = min(LISTS, max(1, len(data.vectors) // _FEWEST_PER_LIST))
        folder = data.folder
        self._coarse = _coarse(folder / "lists.faiss", data.vectors, self.lists)
        self.centroids: Float32s = self._coarse.reconstruct_n(0, self.lists)
        self.members: Int64s = self._coarse.search(data.vectors, 1)[1][:, 0]
        self._codes = {
            name: _index(folder / f"{name}.faiss", data.vectors, make(self._coarse))
            for name, make in CODES.items()
        }
        self._exact = faiss.IndexFlat(data.vectors.shape[1], faiss.METRIC_INNER_PRODUCT)
        self._exact.add(data.vectors)
        self._refined = {name: faiss.IndexRefine(index, self._exact) for name, index in self._codes.items()}
        threads.use(1)

    def prepare(self, vectors: Float32s, terms: Sequence[Terms], k: int, setting: Setting) -> Prepared:
        # Threads share the lists of a single query, or the queries of a batch.
        parallel_mode = 1 if len(vectors) == 1 and self._threads.count > 1 else 0
        self._codes[setting.code].parallel_mode = parallel_mode
        return Prepared(vectors, terms, k, setting)

    def answer(self, prepared: Prepared) -> Int64s:
        """[B, k] int64 - ids, best first, -1 after the last. This is what the clock sees."""
        if not any(prepared.terms):
            return self._search(prepared.vectors, prepared, None)

        def one(i: int) -> Int64s:
            selector = faiss.IDSelectorBitmap(self._postings.bits(prepared.terms[i]))
            return self._search(prepared.vectors[i : i + 1], prepared, selector)

        return np.concatenate(self._threads.map(one, len(prepared.terms)))

    def _search(self, vectors: Float32s, prepared: Prepared, selector: Any) -> Int64s:
        setting = prepared.setting
        assert setting is not None
        parameters = faiss.SearchParametersIVF(nprobe=setting.probes, sel=selector)
        index: Any = self._codes[setting.code]
        if setting.refined:
            index = self._refined[setting.code]
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=setting.refined, base_index_params=parameters
            )
        found: Int64s = index.search(vectors, prepared.k, params=parameters)[1]
        return found


class Roaring:
    """The inverted index, then exact dots with every eligible item and the best of them: recall is 1."""

    def __init__(self, data: Data, postings: Postings, threads: Threads) -> None:
        self._vectors, self._postings, self._threads = data.vectors, postings, threads
        self._pointer = faiss.swig_ptr(data.vectors)

    def prepare(self, vectors: Float32s, terms: Sequence[Terms], k: int, setting: None) -> Prepared:
        return Prepared(vectors, terms, k, setting)

    def answer(self, prepared: Prepared) -> Int64s:
        """[B, k] int64 - ids, best first, -1 after the last. This is what the clock sees."""
        return np.stack(self._threads.map(lambda i: self._one(prepared, i), len(prepared.terms)))

    def _one(self, prepared: Prepared, i: int) -> Int64s:
        query, terms, k = prepared.vectors[i], prepared.terms[i], prepared.k
        if terms:
            ids = self._postings.ids(terms).astype(np.int64)
            scores = np.empty(len(ids), np.float32)
            # Faiss's dots by place, which write no copy of the vectors as numpy's do.
            faiss.fvec_inner_products_by_idx(
                *(faiss.swig_ptr(scores), faiss.swig_ptr(query), self._pointer, faiss.swig_ptr(ids)),
                *(len(query), 1, len(ids)),
            )
        else:
            ids, scores = None, self._vectors @ query
        last = len(scores) - min(k, len(scores))
        best = np.argpartition(scores, last)[last:] if last else np.arange(len(scores))
        best = best[np.argsort(-scores[best])]
        found = np.full(k, -1, np.int64)
        found[: len(best)] = best if ids is None else ids[best]
        return found


def _scalar(kind: int) -> Callable[[Any], Any]:
    return lambda coarse: faiss.IndexIVFScalarQuantizer(
        coarse, coarse.d, coarse.ntotal, kind, faiss.METRIC_INNER_PRODUCT, True
    )


def _fast_scan(parts: int) -> Callable[[Any], Any]:
    def make(coarse: Any) -> Any:
        index = faiss.IndexIVFPQFastScan(
            coarse, coarse.d, coarse.ntotal, parts, 4, faiss.METRIC_INNER_PRODUCT
        )
        # Codes of what the centroid leaves: at 64 parts and twice the results refined, recall 0.90 for 0.75.
        index.by_residual = True
        return index

    return make


CODES: Mapping[str, Callable[[Any], Any]] = {
    "SQ8": _scalar(faiss.ScalarQuantizer.QT_8bit),
    "SQ8 uniform": _scalar(faiss.ScalarQuantizer.QT_8bit_uniform),
    **{f"PQ{parts}x4fs": _fast_scan(parts) for parts in (32, 64, 128)},
}


def _coarse(path: Path, vectors: Float32s, lists: int) -> Any:
    if not path.exists():
        # Spherical, as Faiss's own factory has it for inner products; it finds more than plain k-means does here.
        learner = faiss.Kmeans(
            vectors.shape[1], lists, niter=20, seed=0, spherical=True, min_points_per_centroid=1
        )
        learner.train(vectors)
        coarse = faiss.IndexFlatIP(vectors.shape[1])
        coarse.add(learner.centroids)
        faiss.write_index(coarse, str(path))
    return faiss.read_index(str(path))


def _index(path: Path, vectors: Float32s, index: Any) -> Any:
    if not path.exists():
        index.own_fields = False
        index.quantizer_trains_alone = 1
        index.train(vectors[:: max(1, len(vectors) // 200_000)].copy())
        index.add(vectors)
        faiss.write_index(index, str(path))
    return faiss.read_index(str(path))


def _bitmaps(column: npt.NDArray[np.unsignedinteger]) -> list[pyroaring.BitMap]:
    order = np.argsort(column, kind="stable").astype(np.uint32)
    bounds = np.cumsum(np.bincount(column))[:-1]
    return [pyroaring.BitMap(part) for part in np.split(order, bounds)]
