"""Decodes a caller's request into a Query, by functions compiled when the mapping is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.ids import refuse_two_kinds
from meshfold.compat.mapped.asked import Asked, asked_of
from meshfold.compat.mapped.codecs import Codec, codec_of
from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.features import Features, features_of, weights_of
from meshfold.compat.mapped.filters import Condition, expression, filter_of
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paging import Paging, paging_of
from meshfold.compat.mapped.paths import Path
from meshfold.compat.mapped.size import Sizes
from meshfold.compat.mapped.strictness import Check
from meshfold.compat.mapped.tensors import tensors_of
from meshfold.compat.mapped.values import Metadata, Scope, Value, value_of
from meshfold.compat.wire_values import is_required
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits
from meshfold.model.types import Ids, MaxPerValue, Query, RequestSize, no_ids

_KEYS = (
    "surface",
    "user_id",
    "history",
    "features",
    "filter",
    "max_results",
    "excluded",
    "formula",
    "weights",
    "max_per_value",
    "request_id",
    "explain",
    "fields",
    "offset",
    "page_token",
    "tensors",
    "asked",
    "min_value",
)
_SINGLE = {
    "surface": ("string",),
    "user_id": ("string", "integer"),
    "max_results": ("integer",),
    "formula": ("string",),
    "request_id": ("string",),
    "explain": ("bool",),
}
_LISTS = {"history": "history", "excluded": "excluded_ids"}
# Fields of Query by a mapping's keys, where the names differ.
_PARTS = {"formula": "value_formula", "excluded": "excluded_ids", "weights": "task_weights"}


@dataclass(frozen=True, eq=False)
class MappedQuery(Query):
    """A Query, and data of the request for its answer.

    echoes: values of the request that the answer repeats, by path. page: the page of the answer. asked: names of the
    selected parts of the answer; None for all. min_value: results with a smaller value are left out.
    """

    echoes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    page: Any = field(default=None, repr=False)
    asked: frozenset[str] | None = None
    min_value: float | None = None


class Request:
    """Decodes requests of one method."""

    def __init__(
        self,
        part: Part,
        message: Descriptor,
        protocol: Protocol,
        codec: Codec | None,
        parts: tuple[str, ...] = (),
    ) -> None:
        """part: the table of the mapping. parts: see Scope. Raises InvalidMapping."""
        self._name = message.full_name
        self._kind = GetMessageClass(message)
        self._checks_required = _holds_required(message)
        self.scope = scope = Scope(message, protocol, parts=parts)
        table = part.table(_KEYS)
        if "tensors" in table:
            scope.tensors.append(tensors_of(table["tensors"], scope))
        if "max_results" not in table:
            raise part.error("max_results is missing: a path, or { const = 100 }")
        self._values = {
            name: value_of(table[name], scope, kinds) for name, kinds in _SINGLE.items() if name in table
        }
        self._ids = {name: _IdList(table[name], scope, codec) for name in _LISTS if name in table}
        self._features: Features | None = None
        if "features" in table:
            self._features = features_of(table["features"], scope)
        conditions = filter_of(table["filter"], scope) if "filter" in table else []
        self._filter = expression(conditions) if conditions else None
        self._weights = None
        weighted: Path | None = None
        if "weights" in table:
            self._weights, weighted = weights_of(table["weights"], scope)
        self._cap = _cap_of(table["max_per_value"], scope) if "max_per_value" in table else None
        self._fields = value_of(table["fields"], scope, ("string",), many=True) if "fields" in table else None
        self.paging: Paging | None = paging_of(table, scope)
        self.asked: Asked | None = asked_of(table["asked"], scope) if "asked" in table else None
        self._min_value = (
            value_of(table["min_value"], scope, ("number", "integer")) if "min_value" in table else None
        )
        # Set by the answer: catalog fields that it contains, each with the names by which callers select it ("" for
        # always), and the paths that it repeats.
        self.shown: Mapping[str, frozenset[str]] = {}
        self.echoes: dict[str, Value] = {}
        # Further checks of a request, made in order.
        self.checks: list[Check] = []
        self.metadata_keys = frozenset(_metadata_of([*self._values.values()], conditions, self._features))
        self.feature_metadata: tuple[str, ...] = () if self._features is None else self._features.metadata
        self._names = self._named(conditions)
        # Parts of a Query whose inner paths have no counterpart in the request.
        self._hidden = {"fields"} if len(conditions) == 1 and conditions[0].is_tree else {"fields", "filter"}
        self._sizes = Sizes(
            self._kind,
            message,
            self._values,
            self._counted(conditions, weighted),
            self.paging is not None and self.paging.changes_size,
            self.parse,
            self._page_of,
        )

    def value(self, name: str) -> Value | None:
        """The Value mapped to a single-valued part of the query; None where it is not mapped."""
        return self._values.get(name)

    def parse(self, message: bytes) -> Any:
        """Parses a message. Raises InvalidQuery."""
        try:
            parsed = self._kind.FromString(message)
        except (DecodeError, RecursionError):
            raise InvalidQuery("request", f"the bytes are not a {self._name}") from None
        if self._checks_required and not parsed.IsInitialized():
            missing = ", ".join(parsed.FindInitializationErrors()[:3])
            raise InvalidQuery("request", f"required fields of {self._name} are missing: {missing}")
        return parsed

    def measure(self, message: bytes, metadata: Metadata, limits: Limits) -> RequestSize:
        """The size of a request. Raises InvalidQuery where it exceeds a limit."""
        return self._sizes.measure(message, metadata, limits)

    def decode(self, message: bytes, metadata: Metadata) -> MappedQuery:
        """Decodes a request. Raises InvalidQuery."""
        parsed = self.parse(message)
        for check in self.checks:
            check(parsed, metadata)
        got = {name: value.read(parsed, metadata) for name, value in self._values.items()}
        ids = {name: each.read(parsed, metadata) for name, each in self._ids.items()}
        history: Ids = ids.get("history", no_ids())
        excluded: Ids = ids.get("excluded", no_ids())
        max_results, page = got.get("max_results") or 0, None
        if self.paging is not None:
            max_results, excluded, page = self.paging.turn(parsed, metadata, max_results, excluded)
        refuse_two_kinds({"history": history, "excluded_ids": excluded}, lambda path, _: self.path(path))
        chosen = None if self.asked is None else self.asked.read(parsed, metadata)
        shown = tuple(self.shown)
        if chosen is not None:
            shown = tuple(field for field, names in self.shown.items() if "" in names or names & chosen)
        if self._fields is not None:
            asked = self._fields.read(parsed, metadata) or ()
            shown = tuple(dict.fromkeys((*shown, *([asked] if isinstance(asked, str) else asked))))
        return MappedQuery(
            surface=got.get("surface") or "",
            max_results=max_results,
            request_id=got.get("request_id") or "",
            user_id=got.get("user_id") or 0,
            history=history,
            features={} if self._features is None else self._features.read(parsed, metadata),
            filter=None if self._filter is None else self._filter(parsed, metadata),
            excluded_ids=excluded,
            task_weights={} if self._weights is None else self._weights(parsed),
            value_formula=got.get("formula") or "",
            max_per_value=None if self._cap is None else self._cap(parsed, metadata),
            fields=shown,
            explain=bool(got.get("explain")),
            echoes={name: value.read(parsed, metadata) for name, value in self.echoes.items()},
            page=page,
            asked=chosen,
            min_value=None if self._min_value is None else self._min_value.read(parsed, metadata),
        )

    def path(self, path: str) -> str:
        """Translates the path of a part of a Query into a path of the caller's request."""
        for name, own in self._names.items():
            rest = path.removeprefix(name)
            if path.startswith(name) and (not rest or rest[0] in "[."):
                return own if name in self._hidden else own + rest
        return path

    def _named(self, conditions: list[Condition]) -> dict[str, str]:
        """Paths of the caller's request by parts of a Query; longer ones first."""
        names = {_PARTS.get(name, name): value.name for name, value in self._values.items()}
        names |= {_LISTS[name]: each.value.name for name, each in self._ids.items()}
        if self._features is not None:
            for name, path in self._features.names.items():
                names["features" if name == "*" else f'features["{name}"]'] = path
        if conditions:
            names["filter"] = " and ".join(dict.fromkeys(condition.name for condition in conditions))
        return dict(sorted(names.items(), key=lambda pair: -len(pair[0])))

    def _counted(self, conditions: list[Condition], weighted: Path | None) -> dict[str, list[Path]]:
        """Paths whose values count towards a limit, by the limit's name."""
        found: dict[str, list[Path]] = {}
        for name, counter in (("history", "history"), ("excluded", "excluded")):
            if name in self._ids:
                found[counter] = self._ids[name].paths
        if self._features is not None:
            found["features"] = list(self._features.listed)
            for place, path in enumerate(self._features.counted):
                found[f"feature_values:{place}"] = [path]
        found["filter_values"] = [path for condition in conditions for path in condition.counted]
        found["weights"] = [] if weighted is None else [weighted]
        return {name: paths for name, paths in found.items() if paths}

    def _page_of(self, parsed: Any, metadata: Metadata, max_results: int) -> int:
        assert self.paging is not None
        return self.paging.turn(parsed, metadata, max_results, no_ids())[0]


class _IdList:
    """A list of item ids. value: its source. paths: the paths that it reads."""

    def __init__(self, part: Part, scope: Scope, codec: Codec | None) -> None:
        if isinstance(part.raw, dict) and "ids" in part.raw:
            with part["ids"].located():
                codec = codec_of(part["ids"].text())
        entries = part.entries()
        values = [value_of(entry, scope, ("integer", "string"), many=True) for entry in entries]
        self.value = value_of(part, scope, ("integer", "string"), many=True)
        self.paths = [value.path for value in values if value.path is not None]
        self._codec = codec

    def read(self, parsed: Any, metadata: Metadata) -> Ids:
        found = self.value.read(parsed, metadata)
        if found is None or (self.value.many and not len(found)):
            return no_ids()
        if not self.value.many:
            found = [found]
        if not isinstance(found[0], str):
            return np.array(found, np.int64)
        if self._codec is None:
            return tuple(found)
        decoded = []
        for place, text in enumerate(found):
            try:
                decoded.append(self._codec.decode(text))
            except ValueError as error:
                here = f"{self.value.name}[{place}]" if self.value.many else self.value.name
                raise InvalidQuery(here, f"{error}, got {text[:64]!r}") from None
        return np.array(decoded, np.int64) if self._codec.has_integers else tuple(map(str, decoded))


def _cap_of(part: Part, scope: Scope) -> Callable[[Any, Metadata], MaxPerValue | None]:
    table = part.table({"field", "limit"}, ("field", "limit"))
    named = value_of(table["field"], scope, ("string",))
    limit = value_of(table["limit"], scope, ("integer",))

    def read(message: Any, metadata: Metadata) -> MaxPerValue | None:
        most, name = limit.read(message, metadata), named.read(message, metadata)
        return None if most is None or not name else MaxPerValue(name, most)

    return read


def _metadata_of(values: list[Value], conditions: list[Condition], features: Features | None) -> list[str]:
    keys = [key for value in values for key in value.metadata]
    keys += [key for condition in conditions for key in condition.metadata]
    return keys + list(() if features is None else features.metadata)


def _holds_required(message: Descriptor) -> bool:
    seen, waiting = {message.full_name}, [message]
    while waiting:
        for each in waiting.pop().fields:
            if is_required(each):
                return True
            inner = each.message_type
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return False


def check_codec(part: Part | None) -> Codec | None:
    """The codec of a method's ids; None without one. Raises InvalidMapping."""
    if part is None:
        return None
    try:
        return codec_of(part.text())
    except Misfit as error:
        raise part.error(str(error)) from None
