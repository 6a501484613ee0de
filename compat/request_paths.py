"""Paths in errors and notes: from the names of a Query (model/limits.py) to the fields of a protocol's request, and
back for callers in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meshfold.model.types import AnyQuery, EmbedQuery, FeatureList

# The field of integers and its sibling for strings, the same in mesh.v1 and meshfold.v1.
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
# Names of features hold any character; the last quote and bracket end one.
_FEATURE_VALUE = re.compile(r'\["(.*)"\](\[\d+\])', re.DOTALL)
_SENT_VALUE = re.compile(r'(\[".*"\])\.(?:ints|floats|strings)(?:\.values)?(\[\d+\])', re.DOTALL)


@dataclass(frozen=True)
class RequestPaths:
    """The names of one protocol. user: what stands before a part of the user, `user.`. values: what stands between the
    kind of a feature and a place in its values, `.values`. renamed: other fields by the names of a Query."""

    user: str = ""
    values: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def of(self, query: AnyQuery, path: str) -> str:
        """The path of a part of `query`, in the request that it was decoded from."""
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
        """The same where no query was decoded. strings: whether the id or the ids at the path are strings."""
        found = _PATH.fullmatch(path)
        if found is None:
            return path
        whole, name, rest = found[1] or "", found[2], found[3]
        if not whole and name in _OF_USER:
            whole = self.user
        sent = SIBLINGS[name][strings] if name in SIBLINGS else self.renamed.get(name, name)
        return f"{whole}{sent}{rest}"


def of_query(path: str) -> str:
    """The path of a part of a Query that a request's path stands for, in either protocol."""
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
