"""`meshfold vectors`: a file of item vectors from interactions, for data without vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meshfold.model.data.source import Source
from meshfold.model.data.vector_file import write_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.progress import Progress, silent
from meshfold.model.vectors import DEFAULT_DIMENSION, factorize


@dataclass(frozen=True)
class Factorized:
    """Sizes of the written file. met: number of items with an interaction; the others have zeros."""

    items: int
    dimension: int
    met: int


def write_factorized(
    source: Source,
    data: Path,
    out: Path,
    dimension: int = DEFAULT_DIMENSION,
    seed: int = 0,
    progress: Progress = silent,
) -> Factorized:
    """Factorizes the interactions of the source at `data` and writes vectors to `out`. Raises InvalidData."""
    progress("reading", 0, 1)
    interactions = source.interactions()
    if interactions is None:
        raise InvalidData(f"{data}: has no interactions to make vectors from; add [interactions]")
    catalog = source.catalog()
    progress("reading", 1, 1)
    vectors = factorize(interactions, catalog.item_ids, dimension, seed, progress)
    write_vectors(out, catalog.ids, [vectors], vectors.shape[1])
    return Factorized(len(catalog), vectors.shape[1], int(vectors.any(axis=1).sum()))
