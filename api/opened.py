"""Queries to a loaded snapshot from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from meshfold.api.answers import Answer, listed
from meshfold.api.vectors import matrix_of
from meshfold.model.errors import InvalidData, InvalidQuery
from meshfold.model.filter.expression import Expression
from meshfold.model.filter.text import parse_filter
from meshfold.model.query_lists import checked, ids_of_list, with_arrays
from meshfold.model.schema import nearest
from meshfold.model.snapshot import MANIFEST
from meshfold.model.store import Store
from meshfold.model.types import EmbedQuery, Float32s, Query, ScoreQuery, SearchQuery
from meshfold.service.runner import Runner


def open(store: str | Path, surface: str | None = None, device: str = "cpu") -> Model:
    """Loads the newest snapshot of a surface.

    store: a store, or the folder of one snapshot. surface: may be left out where the store has one.
    device: "cpu", "cuda" or "cuda:N". Raises InvalidData where nothing is published, SnapshotRefused where a snapshot
    is damaged or of another surface, InvalidConfig for an unknown device.
    """
    folder = Path(store)
    if (folder / MANIFEST).is_file():
        return Model(Runner.open(folder, surface or folder.parent.name, device))
    surfaces = Store(folder).surfaces()
    if surface is None and len(surfaces) == 1:
        (surface,) = surfaces
    if surface is None or surface not in surfaces:
        what = f"no surface {surface!r}" if surface else f"{len(surfaces)} surfaces; name one"
        raise InvalidData(f"{folder}: holds {what}{nearest(surface or '', surfaces)}")
    return Model(Runner.open(Store(folder).published(surface)[0], surface, device))


class Request(TypedDict, total=False):
    """The arguments of a request; all are optional.

    history: item ids, oldest first. max_results: 100 by default. filter: text such as
    'year >= 2000 && "Comedy" in genres' (model/filter/text.py), or an Expression. excluded_ids: items to leave out.
    features: lists by name, for towers and formulas that read them. task_weights: numbers by task. value_formula: its
    name. max_per_value: ("field", n) - at most n items share a value. fields: names of fields to return with the
    items; "*" for all. explain: whether the answer has an explanation of the search. user_id: does not change answers,
    because callers send histories.
    """

    history: Any
    max_results: int
    filter: str | Expression | None
    excluded_ids: Any
    features: Mapping[str, Any]
    task_weights: Mapping[str, float]
    value_formula: str
    max_per_value: tuple[str, int] | None
    fields: Sequence[str]
    explain: bool
    user_id: int | str


@dataclass(frozen=True, eq=False)
class Scored:
    """Values of given items. item_ids: known ids, in the given order. values: [K] float32.

    task_scores: [K] float32 by task. unknown_ids: ids that the catalog lacks.
    """

    item_ids: npt.NDArray[np.int64] | list[str]
    values: Float32s
    task_scores: Mapping[str, Float32s]
    unknown_ids: npt.NDArray[np.int64] | list[str]


@dataclass(frozen=True, eq=False)
class Found:
    """Items most similar to one vector, best first. item_ids: [K]. similarities: [K] float32."""

    item_ids: npt.NDArray[np.int64] | list[str]
    similarities: Float32s


class Model:
    """One loaded snapshot. Methods can be called from any thread and raise InvalidQuery that names a bad argument."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._many = frozenset(f.name for f in runner.schema.fields if f.kind.many)

    def __len__(self) -> int:
        """The number of items."""
        return self._runner.items

    def __repr__(self) -> str:
        return f"<meshfold.Model {self.surface} {self.version[:12]}: {len(self):,} items>"

    @property
    def surface(self) -> str:
        return self._runner.surface

    @property
    def version(self) -> str:
        """The hash of the snapshot's content, as 64 hex digits."""
        return self._runner.version

    @property
    def fields(self) -> dict[str, str]:
        """The kind of each field."""
        return {f.name: f.kind.value for f in self._runner.schema.fields}

    @property
    def tasks(self) -> tuple[str, ...]:
        return self._runner.schema.tasks

    def retrieve(self, **request: Unpack[Request]) -> Answer:
        """The best items for a user. request: see Request."""
        return self.retrieve_many([request])[0]

    def retrieve_many(self, requests: Sequence[Request]) -> list[Answer]:
        """The best items for each of several requests, in one forward pass."""
        if isinstance(requests, Mapping):
            raise InvalidQuery("requests", "is one request; give a list of them, or call retrieve")
        prepared = [self._runner.prepare(checked(self._query(request))) for request in requests]
        return [Answer.of(answer, self._many) for answer in self._runner.run(prepared)] if prepared else []

    def embed(self, users: Sequence[Request]) -> Float32s:
        """[users, T, D]: query vectors of users from history and features; zeros for unknown users."""
        query = EmbedQuery(self.surface, tuple(with_arrays(self._query(user)).user for user in users))
        return self._runner.embed([self._runner.prepare_embed(checked(query))])[0].vectors

    def search(
        self,
        vectors: Any,
        *,
        max_results: int = 100,
        filter: str | Expression | None = None,
        excluded_ids: Any = (),
    ) -> list[Found]:
        """The eligible items that are most similar to each vector. vectors: [Q, D] numbers."""
        if max_results < 1:
            raise InvalidQuery("max_results", f"must be at least 1, got {max_results}")
        rows = matrix_of("vectors", vectors, _no_query)
        excluded = ids_of_list("excluded_ids", excluded_ids)
        query = SearchQuery(self.surface, max_results, tuple(rows), _expression(filter), excluded)
        (found,) = self._runner.search([self._runner.prepare_search(checked(query))])
        return [
            Found(listed(ids), similarities)
            for ids, similarities in zip(found.item_ids, found.similarities, strict=True)
        ]

    def score(self, item_ids: Any, **request: Unpack[Request]) -> Scored:
        """The values of given items for a user, eligible or not.

        request: history, features, task_weights and value_formula are read.
        """
        query = with_arrays(self._query(request))
        ids = ids_of_list("item_ids", item_ids)
        score_query = ScoreQuery(self.surface, query.user, ids, query.task_weights, query.value_formula)
        (scores,) = self._runner.score([self._runner.prepare_score(checked(score_query))])
        return Scored(
            listed(scores.item_ids),
            scores.values,
            {task: scores.task_scores[:, i] for i, task in enumerate(self.tasks)},
            listed(scores.unknown_ids),
        )

    def _query(self, request: Request) -> Query:
        if not isinstance(request, Mapping):
            raise InvalidQuery("request", f"must be a mapping of arguments, got {request!r:.40}")
        given: dict[str, Any] = {"max_results": 100, **request}
        if unknown := sorted(given.keys() - Request.__annotations__.keys()):
            raise InvalidQuery(unknown[0], f"is no argument{nearest(unknown[0], Request.__annotations__)}")
        given["filter"] = _expression(given.get("filter"))
        fields = given.get("fields", ())
        if isinstance(fields, str) and fields != "*":
            raise InvalidQuery("fields", f"must be a list of names, got {fields!r}; give [{fields!r}]")
        given["fields"] = tuple(self.fields) if fields == "*" else tuple(fields)
        return Query(self.surface, **given)


def _no_query(message: str) -> InvalidQuery:
    path, _, text = message.partition(": ")
    return InvalidQuery(path, text)


def _expression(given: str | Expression | None) -> Expression | None:
    return parse_filter(given) if isinstance(given, str) else given
