"""Nearest neighbours by Faiss: exact in float32, or IVF with 8-bit codes and probes calibrated for a target recall."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt
import torch

from meshfold.kernels.vectors.quantize import Quantized
from meshfold.model.index.calibration import item_like_queries, user_like_queries
from meshfold.model.index.recall import HELD_OUT, QUERIES
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import Float32s, Int64s

_log = logging.getLogger(__name__)

# k-means: most points per list to learn from, and rounds. Faiss's defaults are 256 and 25.
_LEARNED_FROM = 128
_ROUNDS = 12
# Fewest items per list; Faiss warns below this.
_FEWEST_PER_LIST = 39
# Extra neighbours of an exact search, for ties.
_BEYOND = 64

Bits = npt.NDArray[np.uint8]
Found = tuple[Float32s, Int64s]


class Nearest(Protocol):
    """A search of nearest neighbours. few: share of passing items up to which comparing them one by one is faster."""

    @property
    def few(self) -> float: ...

    def search(self, queries: Float32s, k: int, bits: Bits | None, passing: int) -> Found:
        """Searches: (similarities: [Q, >= k] float32, rows: [Q, >= k] int64), best first, -1 after the last.

        queries: [Q, D] float32. bits: a bit for each passing row; None where all pass. passing: number of passing rows.
        """
        ...


class Flat:
    """Compares every passing vector, in float32."""

    # Measured; see docs/mesh.md.
    few = 0.5

    def __init__(self, vectors: Float32s) -> None:
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def search(self, queries: Float32s, k: int, bits: Bits | None, passing: int) -> Found:
        """Searches; returns more than k columns where items tie with the k-th, of which Faiss keeps arbitrary ones."""
        parameters = None if bits is None else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        last = min(k, passing) - 1
        wanted = min(k + _BEYOND, self._index.ntotal)
        while True:
            found: Found = self._index.search(queries, wanted, params=parameters)
            if wanted == self._index.ntotal or (found[0][:, -1] < found[0][:, last]).all():
                return found
            wanted = min(2 * wanted, self._index.ntotal)


class Ivf:
    """IVF,SQ8. probes: lists read where every item passes; more are read where fewer pass, to get as many survivors."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self._probes = int(index.nprobe)

    @property
    def few(self) -> float:
        # The share of items that a search would read anyway.
        return self._probes / int(self._index.nlist)

    def search(self, queries: Float32s, k: int, bits: Bits | None, passing: int) -> Found:
        lists = int(self._index.nlist)
        probes = self._probes
        if bits is not None:
            probes = min(math.ceil(probes * self._index.ntotal / max(passing, 1)), lists)
        selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
            found: Found = self._index.search(queries, k, params=parameters)
            # Repeats with more lists until k items are found, where k pass.
            if probes == lists or (found[1][:, min(k, passing) - 1] >= 0).all():
                return found
            probes = min(probes * 4, lists)


def lists_of(items: int) -> int:
    """The number of lists of a catalog: 4 sqrt(N) by Faiss's guidelines, within what its items can train."""
    return max(1, min(round(4 * math.sqrt(items)), items // _FEWEST_PER_LIST))


def open_ivf(
    snapshot: Snapshot, vectors: Float32s, folder: Path, depth: int, seed: int = 0, recall: float = 0.0
) -> Ivf:
    """Opens the index of a snapshot from its file in the folder; builds and writes it where there is none.

    depth: number of candidates of a search. seed: of k-means. recall: that probes are calibrated for; 0 for the
    measured recall of the snapshot's own index.
    """
    more = f"{f'-{seed}' if seed else ''}{f'-recall-{recall:g}' if recall else ''}"
    path = folder / f"{snapshot.version[:12]}-{depth}{more}.faiss"
    if not path.exists():
        _log.info("building %s, once for this version", path)
        threads = faiss.omp_get_max_threads()
        # All cores, since nothing is answered yet.
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        try:
            index = _built(vectors, seed)
            _calibrate(index, snapshot, vectors, depth, recall)
        finally:
            faiss.omp_set_num_threads(threads)
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, lambda name: faiss.write_index(index, name))
    return Ivf(faiss.read_index(str(path)))


def _built(vectors: Float32s, seed: int) -> Any:
    n, d = vectors.shape
    lists = lists_of(n)
    # Spherical, as in Faiss's own factory for inner products.
    learner = faiss.Kmeans(
        d, lists, niter=_ROUNDS, seed=seed, spherical=True, max_points_per_centroid=_LEARNED_FROM
    )
    learner.cp.min_points_per_centroid = 1
    learner.train(vectors)
    coarse = faiss.IndexFlatIP(d)
    coarse.add(learner.centroids)
    index = faiss.IndexIVFScalarQuantizer(
        coarse, d, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, True
    )
    # Otherwise Python would free memory that the index reads.
    index.own_fields = True
    coarse.this.disown()
    index.quantizer_trains_alone = 1
    index.train(vectors[:: max(1, n // 200_000)].copy())
    index.add(vectors)
    return index


def _calibrate(index: Any, snapshot: Snapshot, vectors: Float32s, depth: int, recall: float) -> None:
    """Sets the fewest probes that reach a recall for the queries that the snapshot's own index was measured with
    (model/index/recall.py). recall: 0 for what was measured."""
    told: Mapping[str, float] = snapshot.built.get("recall", {})
    config = snapshot.content.config
    held = Quantized(snapshot.index["codes"], snapshot.index["residuals"], snapshot.index["units"])
    n = len(vectors)
    results = min(config.recall_depth, n, depth)
    flat = Flat(vectors)
    sets = []
    for kind, draw in (("item_like", item_like_queries), ("user_like", user_like_queries)):
        queries = draw(held, QUERIES, config.seed + HELD_OUT).numpy()
        exact = flat.search(queries, results, None, n)[1][:, :results]
        sets.append((queries, exact, recall or told.get(f"{kind}_recall", config.target_recall)))

    def reached(probes: int) -> bool:
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        for queries, exact, least in sets:
            found = index.search(queries, depth, params=parameters)[1]
            hits = [np.isin(e, f, assume_unique=True).sum() for e, f in zip(exact, found, strict=True)]
            if sum(hits) < least * exact.size:
                return False
        return True

    low, high = 1, int(index.nlist)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    index.nprobe = low
    _log.info("%d of %d lists are probed", low, index.nlist)


def _write(path: Path, write: Callable[[str], None]) -> None:
    """Writes a file that appears as a whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(str(partial))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def dots(query: Float32s, vectors: Float32s, rows: Int64s) -> Float32s:
    """Exact similarities of rows: [M] float32.

    query: [D], vectors: [N, D] float32, rows: [M] int64.
    """
    out = np.empty(len(rows), np.float32)
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(out),
        faiss.swig_ptr(query),
        faiss.swig_ptr(vectors),
        faiss.swig_ptr(rows),
        len(query),
        1,
        len(rows),
    )
    return out


def use_threads(count: int) -> None:
    """Sets the threads of Faiss and torch in this process."""
    faiss.omp_set_num_threads(count)
    torch.set_num_threads(count)
