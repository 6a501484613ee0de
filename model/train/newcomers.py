"""A trained model's vectors joined to a newer catalog. Newcomers are items of the catalog that the model lacks.

The model's own items keep their vectors. A newcomer's vector is a weighted mean of the item tower's output, from its
fields, and a prediction from the other items of its users. The weight of the prediction grows with the number of users.
Items that left the catalog are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array

from meshfold.model.data.catalog import Catalog, Column, no_vectors, repeated
from meshfold.model.data.ids import read_item_ids
from meshfold.model.data.interactions import Bools, Interactions, places_of
from meshfold.model.data.table_files import TableFiles
from meshfold.model.data.vector_file import ID, VECTOR, read_vectors, vector_dimension, with_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.filter.index import take
from meshfold.model.item_tower import with_tower
from meshfold.model.program import Program, read_program
from meshfold.model.snapshot import ITEM_TOWER
from meshfold.model.train.model_folder import VECTORS
from meshfold.model.types import Float32s, Float64s, Int64s
from meshfold.model.vectors import one_thread

# HALFWAY: users at which a newcomer's vector is half from its users and half from its fields. _REGULARIZATION: ridge
# penalty in interactions, limited to _REGULARIZATION_SHARE of all. Chosen among 0, 2, 5, 15 and 1, 100 on MovieLens:
# 500 movies with 1, 3, 10 or 30 known users are found better than by fields alone, and no other movie is found worse.
HALFWAY, _REGULARIZATION, _REGULARIZATION_SHARE = 5.0, 100.0, 0.01


@dataclass(frozen=True, eq=False)
class Joined:
    """A catalog with a vector for each item.

    newcomers: number of items that the model lacks. met: number of newcomers with interactions. left: number of items
    of the model that the catalog lacks.
    """

    catalog: Catalog
    newcomers: int
    met: int
    left: int


def with_model(catalog: Catalog, interactions: Interactions | None, folder: Path) -> Joined:
    """The catalog with vectors in the space of a model folder.

    Newcomers with neither an item tower nor interactions get zeros and count in the catalog's items_without_vector.
    Raises InvalidData where the folder's vectors cannot be read, or none of its items is in the catalog.
    """
    path = folder / VECTORS
    files = TableFiles.open(path)
    files.check(VECTOR)
    read = read_item_ids(files.read([ID])[ID], catalog.schema.ids)
    if len(repeated(read.keys)):
        raise InvalidData(f"{path}: an item has more than one vector; train again")
    places = places_of(catalog.item_ids, read.keys)
    known = places >= 0
    left = len(read.keys) - int(known.sum())
    if not known.any():
        raise InvalidData(
            f"{folder}: none of its {len(read.keys)} items is in the catalog of {len(catalog)}; name the model of this"
            " surface, or train anew"
        )
    if known.all() and not left:
        return Joined(with_vectors(catalog, path), 0, 0, 0)
    dimension = vector_dimension(files, VECTOR)
    trained = np.concatenate(list(read_vectors(files, VECTOR, read.ids, dimension)))
    vectors = np.zeros((len(catalog), dimension), np.float32)
    vectors[known] = trained[places[known]]
    met = fill(catalog, vectors, known, interactions, folder / ITEM_TOWER)
    lacking = int((~vectors[~known].any(1)).sum())
    joined = replace(catalog.with_array(vectors), items_without_vector=lacking)
    return Joined(joined, int((~known).sum()), met, left)


def fill(
    catalog: Catalog, vectors: Float32s, known: Bools, interactions: Interactions | None, tower: Path
) -> int:
    """Writes the vectors of newcomers into `vectors`. Returns the number of newcomers with interactions.

    vectors: [N, D]. known: [N] bool - false for newcomers. tower: the path of an item tower's program, which may be
    missing.
    """
    newcomers = np.flatnonzero(~known)
    if not len(newcomers):
        return 0
    program = read_program(tower) if tower.is_file() else None
    if program is not None:
        vectors[newcomers] = _by_fields(catalog, newcomers, program, vectors.shape[1])
    from_users, counts = met_vectors(vectors.astype(np.float64), known, _pairs(catalog, interactions))
    met = newcomers[counts[newcomers] > 0]
    share = (counts / (counts + HALFWAY))[met, None]
    vectors[met] = (share * from_users[met] + (1 - share) * vectors[met]).astype(np.float32)
    return len(met)


def met_vectors(vectors: Float64s, known: Bools, pairs: csr_array) -> tuple[Float64s, Float64s]:
    """(vectors predicted from interactions: [N, D], zeros without any; numbers of users: [N]).

    The prediction is a ridge regression of the vectors of known items on the mean vector of their users' other known
    items. vectors: [N, D], read for known items alone. pairs: [U, N] - ones where user met item.
    """
    of_known = pairs * known
    known_met = of_known.sum(1)
    sums = of_known @ vectors
    # A known item is left out of its own users' means.
    with np.errstate(divide="ignore"):
        alone = np.where(known_met > 1, 1 / (known_met - 1), 0.0)
        others = np.where(known_met > 0, 1 / known_met, 0.0)
    own = pairs.T @ alone
    means = np.where(
        known[:, None],
        pairs.T @ (alone[:, None] * sums) - own[:, None] * vectors,
        pairs.T @ (others[:, None] * sums),
    )
    counts = np.where(known, pairs.T @ (known_met > 1), pairs.T @ (known_met > 0)).astype(np.float64)
    means /= np.maximum(counts, 1)[:, None]
    inputs = torch.from_numpy(np.concatenate([means, np.ones((len(vectors), 1))], 1))
    weights = torch.from_numpy(np.where(known, np.sqrt(counts), 0.0)[:, None])
    x, y = inputs * weights, torch.from_numpy(vectors) * weights
    with one_thread():
        pull = min(_REGULARIZATION, _REGULARIZATION_SHARE * float(weights.square().sum()))
        ridge = max(pull, 1e-6) * torch.eye(x.shape[1], dtype=x.dtype)
        predicted = inputs @ torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    return np.where(counts[:, None] > 0, predicted.numpy(), 0.0), counts


def _by_fields(catalog: Catalog, places: Int64s, tower: Program, dimension: int) -> Float32s:
    """[n, D] - the tower's vectors of the items at places: [n] int64."""
    made = with_tower(part_of(catalog, places), tower)
    if made.dimension != dimension:
        raise InvalidData(
            f"the item tower gives vectors of {made.dimension} numbers, the model's have {dimension}; train again"
        )
    return np.concatenate(list(made.vectors()))


def part_of(catalog: Catalog, places: Int64s) -> Catalog:
    """The items at places: [n] int64, without vectors."""
    columns = {}
    for name, column in catalog.columns.items():
        lengths, values = take(column, places)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        columns[name] = Column(column.kind, offsets, values, column.vocabulary)
    return replace(
        catalog,
        item_ids=catalog.item_ids[places],
        names=None if catalog.names is None else [catalog.names[p] for p in places.tolist()],
        columns=columns,
        texts={name: [texts[p] for p in places.tolist()] for name, texts in catalog.texts.items()},
        popularity=catalog.popularity[places],
        vectors=no_vectors,
        dimension=0,
        items_without_vector=0,
    )


def _pairs(catalog: Catalog, interactions: Interactions | None) -> csr_array:
    """[U, N] float64 - 1 where a user met an item, once or more often."""
    if interactions is None:
        return csr_array((0, len(catalog)))
    places = places_of(interactions.item_ids, catalog.item_ids)
    of_catalog = places >= 0
    users, rows = np.unique(interactions.user_ids[of_catalog], return_inverse=True)
    pairs = csr_array((np.ones(len(rows)), (rows, places[of_catalog])), shape=(len(users), len(catalog)))
    pairs.sum_duplicates()
    pairs.data[:] = 1.0
    return pairs
