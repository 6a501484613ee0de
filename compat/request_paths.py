"""Translates paths in errors and notes between a Query's names (model/limits.py) and the fields of a protocol's
request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meshfold.model.types import AnyQuery, EmbedQuery, FeatureList

# The fields of integer and string ids, the same in mesh.v1 and meshfold.v1.
SIBLINGS: dict[str, tuple[str, str]] = {
    "user_id": ("user_id", "user_key"),
    "history": ("history", "history_keys"),
    "excluded_ids": ("excluded_item_ids", "excluded_item_keys"),
    "item_ids": ("item_ids", "item_keys"),
}
_OF_USER = ("user_id", "history", "features")
_COLUMNS = {"weighted_tasks": "task_weights", "weights": "task_weights"}
_NAMES = {name: own for own, names in SIBLINGS.items() for name in names} | _COLUMNS

_PATH = re.compile(r"(users\[\d+\]\.)?(\w+)(.*)", re.DOTALL)
# A feature's name may contain any character; it ends at the last quote and bracket.
_FEATURE_VALUE = re.compile(r'\["(.*)"\](\[\d+\])', re.DOTALL)
_SENT_VALUE = re.compile(r'(\[".*"\])\.(?:ints|floats|strings)(?:\.values)?(\[\d+\])', re.DOTALL)


@dataclass(frozen=True)
class RequestPaths:
    """The names of one protocol. user: prefix of parts of the user, such as `user.`. values: text between a feature's
    kind and the index of a value, such as `.values`. renamed: other fields by the names of a Query."""

    user: str = ""
    values: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def of(self, query: AnyQuery, path: str) -> str:
        """Translates the path of a part of the query into a path of its request."""
        found = _PATH.fullmatch(path)
        if found is None or found[2] not in (*_OF_USER, *SIBLINGS):
            return self.named(path)
        whole, name, rest = found[1] or "", found[2], found[3]
        holder: Any = query
        if name in _OF_USER:
            holder = query.users[int(whole[6:-2])] if isinstance(query, EmbedQuery) else holder.user
        held = getattr(holder, name)
        if name == "features" and (value := _FEATURE_VALUE.fullmatch(rest)):
            path = f'{whole}features["{value[1]}"].{_kind_of(held[value[1]])}{self.values}{value[2]}'
        return self.named(path, isinstance(held, tuple | str))

    def named(self, path: str, strings: bool = False) -> str:
        """Translates a path without a query. strings: whether the ids at the path are strings."""
        found = _PATH.fullmatch(path)
        if found is None:
            return path
        whole, name, rest = found[1] or "", found[2], found[3]
        if not whole and name in _OF_USER:
            whole = self.user
        sent = SIBLINGS[name][strings] if name in SIBLINGS else self.renamed.get(name, name)
        return f"{whole}{sent}{rest}"


def of_query(path: str) -> str:
    """Translates a path of a request of either protocol into a path of a Query."""
    found = _PATH.fullmatch(path.removeprefix("user."))
    if found is None or found[1] or (found[2] not in _NAMES and found[2] != "features"):
        return path
    rest: str = found[3]
    if value := _SENT_VALUE.fullmatch(rest):
        rest = value[1] + value[2]
    return _NAMES.get(found[2], found[2]) + rest


def _kind_of(values: FeatureList) -> str:
    if isinstance(values, tuple):
        return "strings"
    return "ints" if values.dtype == np.int64 else "floats"
