"""Prepares queries for one snapshot; refuses parts that do not fit the schema, by their path."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.inputs import HISTORY, encode_inputs, query_vectors
from meshfold.model.item_ids import select
from meshfold.model.schema import nearest
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import EmbedQuery, Ids, Int64s, Query, ScoreQuery, SearchQuery, User
from meshfold.service.denied_positions import DeniedPositions, contains
from meshfold.service.graphs import depth_padded
from meshfold.service.prepared import PreparedQuery, PreparedScore, PreparedSearch, PreparedUser


class Preparation:
    """Turns ids into positions, and filters and formulas into programs, for one snapshot.

    Queries must have passed check() (service/work.py calls it) or checked() (model/query_lists.py).

    compiler: compiles the snapshot's filters. denied: looks up the denied items, which every query excludes.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        candidates: int,
        on_cuda: bool,
        denied: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """candidates: the fewest candidates of a query. on_cuda: whether searches are planned for CUDA graphs. denied:
        see DeniedPositions."""
        self._schema = snapshot.schema
        self._content = snapshot.content
        self._candidates = candidates
        self._on_cuda = on_cuda
        self._ids = snapshot.item_ids()
        self._positions: Int64s = snapshot.items["positions"].numpy()
        self.denied = DeniedPositions(self._ids, self._positions, denied)
        self.compiler = FilterCompiler(self._schema, snapshot.vocabularies(), snapshot.layout())

    def query(self, query: Query) -> PreparedQuery:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        user = self._user(query.user)
        excluded = [self._positions_of(query.excluded_ids, "excluded_ids")]
        if self._schema.exclude_history:
            excluded.append(user.met)
        excluded.append(self.denied.now())
        depth, cap_field = self.depth(query.max_results), self._cap_field(query)
        return PreparedQuery(
            query=query,
            user=user,
            excluded=np.concatenate(excluded),
            program=self.compiler.compile(query.filter),
            value=self._content.value.prepare(query.value_formula, query.task_weights, query.features),
            cap_field=cap_field,
            fields=self._fields(query),
            depth=depth,
            plan=(depth_padded(depth), cap_field >= 0) if self._on_cuda else None,
        )

    def embed(self, query: EmbedQuery) -> list[PreparedUser]:
        """Raises InvalidQuery where a user does not fit the schema."""
        prepared = []
        for place, user in enumerate(query.users):
            try:
                prepared.append(self._user(user))
            except InvalidQuery as error:
                raise error.within(f"users[{place}]") from None
        return prepared

    def search(self, query: SearchQuery) -> PreparedSearch:
        """Raises InvalidQuery where the query does not fit the schema."""
        d = self._content.dimension
        for place, vector in enumerate(query.queries):
            if vector.size != d:
                raise InvalidQuery(f"queries[{place}]", f"has {vector.size} values; expected {d}")
        return PreparedSearch(
            queries=np.concatenate([np.empty(0, np.float32), *query.queries]).reshape(-1, d),
            excluded=np.concatenate(
                [self._positions_of(query.excluded_ids, "excluded_ids"), self.denied.now()]
            ),
            program=self.compiler.compile(query.filter),
            depth=self.depth(query.k),
            k=query.k,
        )

    def score(self, query: ScoreQuery) -> PreparedScore:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        positions = self._positions_of(query.item_ids, "item_ids")
        known = (positions >= 0) & ~contains(self.denied.now(), positions)
        return PreparedScore(
            user=self._user(query.user),
            item_ids=select(query.item_ids, known),
            positions=positions[known],
            unknown_ids=select(query.item_ids, ~known),
            value=self._content.value.prepare(query.value_formula, query.task_weights, query.user.features),
        )

    def _user(self, user: User) -> PreparedUser:
        keys = self._ids.keys_of(user.history)
        met = self._positions_of(user.history, "history", keys)
        return PreparedUser(
            query_vector=query_vectors(user.features, len(self._schema.tasks), self._content.dimension),
            met=met,
            history=met[-HISTORY:],
            history_ids=keys[-HISTORY:],
            inputs=encode_inputs(self._schema.inputs, user.features),
            has_input=any(len(user.features.get(i.name, ())) for i in self._schema.inputs),
        )

    def depth(self, results: int) -> int:
        """The number of candidates to find for a number of results."""
        return min(max(self._candidates, results + results // 4), self._content.items)

    def _positions_of(self, item_ids: Ids, path: str, keys: Int64s | None = None) -> Int64s:
        """Positions of items; -1 for unknown items. Raises InvalidQuery for ids of the wrong kind."""
        rows = self._ids.rows_of(item_ids, path, keys)
        return np.where(rows >= 0, self._positions[rows], -1)

    def _cap_field(self, query: Query) -> int:
        if query.max_per_value is None:
            return -1
        fields = {f.name: place for place, f in enumerate(self._schema.filterable)}
        name = query.max_per_value.field
        if name not in fields:
            raise InvalidQuery("max_per_value.field", f"no filterable field {name!r}{nearest(name, fields)}")
        return fields[name]

    def _fields(self, query: Query) -> tuple[str, ...]:
        for i, name in enumerate(query.fields):
            if name not in self._schema:
                known = [f.name for f in self._schema.fields]
                raise InvalidQuery(f"fields[{i}]", f"no field {name!r}{nearest(name, known)}")
        return tuple(dict.fromkeys(query.fields))
