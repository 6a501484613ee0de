"""Nearest neighbours in Faiss: exact in float32, or IVF with 8-bit codes whose lists are probed for a target recall."""

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

# Of k-means: points a list that it learns from at most, and rounds. Faiss's own defaults are 256 and 25.
_LEARNED_FROM = 128
_ROUNDS = 12
# Items a list at least, below which Faiss warns of too few to learn from.
_FEWEST_PER_LIST = 39
# Neighbours that an exact search looks at beyond those wanted, for ties.
_BEYOND = 64

Bits = npt.NDArray[np.uint8]
Found = tuple[Float32s, Int64s]


class Nearest(Protocol):
    """few: the share of all items up to which those that pass are compared one by one sooner than by a search."""

    @property
    def few(self) -> float: ...

    def search(self, queries: Float32s, k: int, bits: Bits | None, passing: int) -> Found:
        """(similarities: [Q, >= k] float32, rows: [Q, >= k] int64), best first, -1 after the last.

        queries: [Q, D] float32. bits: a bit for each row that passes; None where all do. passing: how many do.
        """
        ...


class Flat:
    """Every vector that passes is compared, in float32."""

    # Measured: docs/mesh.md.
    few = 0.5

    def __init__(self, vectors: Float32s) -> None:
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def search(self, queries: Float32s, k: int, bits: Bits | None, passing: int) -> Found:
        """With more than k columns where items as near as the k-th would else be left out: Faiss keeps any of them."""
        parameters = None if bits is None else faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
        last = min(k, passing) - 1
        wanted = min(k + _BEYOND, self._index.ntotal)
        while True:
            found: Found = self._index.search(queries, wanted, params=parameters)
            if wanted == self._index.ntotal or (found[0][:, -1] < found[0][:, last]).all():
                return found
            wanted = min(2 * wanted, self._index.ntotal)


class Ivf:
    """IVF,SQ8. probes: lists that are read where every item passes; more where fewer do, for as many survivors."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self._probes = int(index.nprobe)

    @property
    def few(self) -> float:
        # As many as it would read anyway.
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
            # Lists that held too few leave gaps at the end; whoever asks for k is to get k where there are k.
            if probes == lists or (found[1][:, min(k, passing) - 1] >= 0).all():
                return found
            probes = min(probes * 4, lists)


def lists_of(items: int) -> int:
    """Lists for a catalog: 4 sqrt(N) as Faiss's guidelines have it, though few enough to learn them."""
    return max(1, min(round(4 * math.sqrt(items)), items // _FEWEST_PER_LIST))


def open_ivf(snapshot: Snapshot, vectors: Float32s, folder: Path, depth: int, seed: int = 0) -> Ivf:
    """The index of a snapshot, from its file in the folder; built and written there where there is none.

    depth: candidates of a search. seed: of k-means.
    """
    path = folder / f"{snapshot.version[:12]}-{depth}{f'-{seed}' if seed else ''}.faiss"
    if not path.exists():
        _log.info("building %s, once for this version", path)
        threads = faiss.omp_get_max_threads()
        # Nothing is answered yet.
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        try:
            index = _built(vectors, seed)
            _calibrate(index, snapshot, vectors, depth)
        finally:
            faiss.omp_set_num_threads(threads)
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, lambda name: faiss.write_index(index, name))
    return Ivf(faiss.read_index(str(path)))


def _built(vectors: Float32s, seed: int) -> Any:
    n, d = vectors.shape
    lists = lists_of(n)
    # Spherical, as Faiss's own factory has it for inner products.
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
    # Else Python frees what the index still reads.
    index.own_fields = True
    coarse.this.disown()
    index.quantizer_trains_alone = 1
    index.train(vectors[:: max(1, n // 200_000)].copy())
    index.add(vectors)
    return index


def _calibrate(index: Any, snapshot: Snapshot, vectors: Float32s, depth: int) -> None:
    """Sets the fewest probes with which a search's candidates hold as large a share of the exact results as the
    snapshot's own index was measured to find (model/index/recall.py): for the same queries, of both kinds."""
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
        sets.append((queries, exact, told.get(f"{kind}_recall", config.target_recall)))

    def reached(probes: int) -> bool:
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        for queries, exact, recall in sets:
            found = index.search(queries, depth, params=parameters)[1]
            hits = [np.isin(e, f, assume_unique=True).sum() for e, f in zip(exact, found, strict=True)]
            if sum(hits) < recall * exact.size:
                return False
        return True

    low, high = 1, int(index.nlist)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    index.nprobe = low
    _log.info("%d of %d lists are probed", low, index.nlist)


def _write(path: Path, write: Callable[[str], None]) -> None:
    """Writes a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(str(partial))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def dots(query: Float32s, vectors: Float32s, rows: Int64s) -> Float32s:
    """[M] float32: exact similarities of the rows, whose vectors are read where they lie.

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
    """Threads of a search and of torch's operations, in this process."""
    faiss.omp_set_num_threads(count)
    torch.set_num_threads(count)
