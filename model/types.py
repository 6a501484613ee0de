"""The values of a request and its answer, each with one name.

Shape letters, the same everywhere:
    B queries, T tasks, N items, D dimension, C clusters, P probed clusters, K results, W signature words,
    F filterable fields, H history, E excluded items, L steps of a filter or formula, V values of a filter.
Words: `max_results` are results of a query, `candidates` the items that a search finds for ranking, `scale` is the
factor from integers to floats (tensors of a snapshot call it units), a `program` is an exported module, a `plan` says
how a query is searched.
Three names of an item: `item_id` is the caller's, an int64 or a string; `row` is the item's place in the order of
ids, 0 to N - 1 (so that ties by the smaller row are ties by the smaller id); `position` is its place in the
index, where clusters lie back to back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from meshfold.model.filter.expression import Expression

Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

# Item ids of a surface, all integers or all strings; strings are ordered by their UTF-8 bytes.
Ids = Int64s | tuple[str, ...]

# The feature that holds query vectors: D floats, or D floats for each task in the order of tasks.
QUERY_VECTOR = "query_vector"

# A feature of the user or the request: one list of one kind.
FeatureList = Int64s | Float32s | tuple[str, ...]


def no_ids() -> Int64s:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class MaxPerValue:
    """At most `limit` results share a value of `field`."""

    field: str
    limit: int


@dataclass(frozen=True, eq=False)
class User:
    """The user of a request; its data is left out of its repr. history: item ids, oldest first."""

    user_id: int | str = field(default=0, repr=False)
    history: Ids = field(default_factory=no_ids, repr=False)
    features: Mapping[str, FeatureList] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Query:
    """One decoded request for results, of any protocol. Personal parts stay out of its repr.

    history: item ids, oldest first. filter: None where every item is eligible. value_formula: "" for the
    surface's default. fields: names of fields to return with the items.
    """

    surface: str
    max_results: int
    request_id: str = ""
    user_id: int | str = field(default=0, repr=False)
    history: Ids = field(default_factory=no_ids, repr=False)
    features: Mapping[str, FeatureList] = field(default_factory=dict, repr=False)
    filter: Expression | None = None
    excluded_ids: Ids = field(default_factory=no_ids, repr=False)
    task_weights: Mapping[str, float] = field(default_factory=dict)
    value_formula: str = ""
    max_per_value: MaxPerValue | None = None
    fields: tuple[str, ...] = ()
    explain: bool = False

    @property
    def user(self) -> User:
        return User(self.user_id, self.history, self.features)


@dataclass(frozen=True, eq=False)
class FieldValues:
    """The values of a field for K items, back to back. Item i has lengths[i] values; 0 where it lacks the field.

    lengths: [K] int64. values: [sum(lengths)] strings, int64 or float64.
    """

    lengths: Int64s
    values: tuple[str, ...] | Int64s | Float64s


@dataclass(frozen=True, eq=False)
class Candidates:
    """The answer to one Query, best first; ties of value go to the smaller item id.

    item_ids: [K] int64 or strings. values: [K] float32 - the order. similarities: [K] float32 - the largest over the
    tasks. task_scores: [K, T] float32, in the order of `tasks`. version: of the snapshot that answered.
    explain: empty unless the query has `explain`.
    """

    tasks: tuple[str, ...]
    version: str
    item_ids: Ids
    values: Float32s
    similarities: Float32s
    task_scores: Float32s
    fields: Mapping[str, FieldValues] = field(default_factory=dict)
    explain: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EmbedQuery:
    """One request for the query vectors of users."""

    surface: str
    users: tuple[User, ...]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The answer to an EmbedQuery. vectors: [users, T, D] float32, zeros for unknown users."""

    tasks: tuple[str, ...]
    version: str
    vectors: Float32s


@dataclass(frozen=True, eq=False)
class SearchQuery:
    """One request for the k eligible items that are most similar to each query vector.

    queries: [D] float32 each; all zeros for an unknown user.
    """

    surface: str
    k: int
    queries: tuple[Float32s, ...] = field(repr=False)
    filter: Expression | None = None
    excluded_ids: Ids = field(default_factory=no_ids, repr=False)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The answer to a SearchQuery, best first for each query vector; ties go to the smaller item id.

    item_ids: [<= k] int64 or strings, and similarities: [<= k] float32, for each query vector. For an unknown user they
    are the most popular eligible items and their popularity, from 0 to 1.
    """

    version: str
    item_ids: tuple[Ids, ...]
    similarities: tuple[Float32s, ...]


@dataclass(frozen=True, eq=False)
class ScoreQuery:
    """One request for the values of given items for a user, eligible or not."""

    surface: str
    user: User
    item_ids: Ids
    task_weights: Mapping[str, float] = field(default_factory=dict)
    value_formula: str = ""


@dataclass(frozen=True, eq=False)
class Scores:
    """The answer to a ScoreQuery, in the order of its item ids, repeated ids included.

    item_ids: [K] int64 or strings - known ids. values: [K] float32. task_scores: [K, T] float32.
    unknown_ids: ids that the catalog lacks.
    """

    tasks: tuple[str, ...]
    version: str
    item_ids: Ids
    values: Float32s
    task_scores: Float32s
    unknown_ids: Ids


@dataclass(frozen=True)
class RequestSize:
    """The size of a request in counts, from which its price is computed. Counts that a call lacks are 0.

    surface: its name; "" for the only one. filter_values: of all matches. history, features and feature_values: of all
    users. feature_values: of all features. bytes: of the message.
    """

    surface: str = ""
    max_results: int = 0
    filter_nodes: int = 0
    filter_values: int = 0
    history: int = 0
    excluded: int = 0
    features: int = 0
    feature_values: int = 0
    item_ids: int = 0
    users: int = 0
    query_vectors: int = 0
    bytes: int = 0


# Queries and answers of all calls.
AnyQuery = Query | EmbedQuery | SearchQuery | ScoreQuery
AnyAnswer = Candidates | Embeddings | Neighbours | Scores
