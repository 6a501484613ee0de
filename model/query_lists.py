"""Queries as people write them in Python: lists where arrays belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from meshfold.model.errors import InvalidQuery
from meshfold.model.types import (
    AnyQuery,
    EmbedQuery,
    FeatureList,
    Float32s,
    Ids,
    Int64s,
    Query,
    ScoreQuery,
    SearchQuery,
    User,
)

Asked = TypeVar("Asked", bound=AnyQuery)


def with_arrays(query: Asked) -> Asked:
    """The query with every list as its type says (model/types.py), unchanged where it is so already. Raises
    InvalidQuery with the path of a list that is none, or holds what it may not."""
    made: Any = query
    match query:
        case Query():
            user = _user(query.user)
            parts = {"user_id": user.user_id, "history": user.history, "features": user.features}
            made = _with(query, **parts, excluded_ids=_ids("excluded_ids", query.excluded_ids))
            if isinstance(query.filter, str):
                raise InvalidQuery("filter", "must be an Expression, got text; parse_filter(text) makes one")
        case EmbedQuery():
            users = [_user(user, f"users[{place}].") for place, user in enumerate(query.users)]
            if any(user is not given for user, given in zip(users, query.users, strict=True)):
                made = replace(query, users=tuple(users))
        case SearchQuery():
            vectors = [
                v if _is_array(v, np.float32) else _vector(f"queries[{place}]", v)
                for place, v in enumerate(query.queries)
            ]
            if any(vector is not given for vector, given in zip(vectors, query.queries, strict=True)):
                made = replace(query, queries=tuple(vectors))
            made = _with(made, excluded_ids=_ids("excluded_ids", query.excluded_ids))
        case ScoreQuery():
            made = _with(query, user=_user(query.user), item_ids=_ids("item_ids", query.item_ids))
    return made  # type: ignore[no-any-return]


def _user(user: User, whole: str = "") -> User:
    """whole: the path of what the user is part of."""
    features: Mapping[str, FeatureList] = user.features
    if not all(_is_array(v, np.int64, np.float32) or _is_strings(v) for v in features.values()):
        features = {name: feature_of_list(f'{whole}features["{name}"]', v) for name, v in features.items()}
    history = _ids(f"{whole}history", user.history)
    made: User = _with(user, user_id=_user_id(user.user_id), history=history, features=features)
    return made


def _with(held: Any, **parts: Any) -> Any:
    """The same where the parts are what it holds."""
    changed = {name: part for name, part in parts.items() if part is not getattr(held, name)}
    return replace(held, **changed) if changed else held


def _ids(path: str, values: Any) -> Ids:
    return values if _is_array(values, np.int64) or _is_strings(values) else ids_of_list(path, values)


def _vector(path: str, values: Any) -> Float32s:
    held = _plain(path, values)
    return _floats(path, held)


def _is_array(values: Any, *dtypes: type[np.generic]) -> bool:
    return type(values) is np.ndarray and values.ndim == 1 and values.dtype.type in dtypes


def _is_strings(values: Any) -> bool:
    return type(values) is tuple and set(map(type, values)) <= {str}


def ids_of_list(path: str, values: Any) -> Ids:
    """Ids of one kind, integers or strings, from a list, a tuple, or an array of any library."""
    held = _plain(path, values)
    if all(isinstance(value, str) for value in held) and held:
        return tuple(held)
    return _integers(path, held, "an integer or a string, all of one kind")


def feature_of_list(path: str, values: Any) -> FeatureList:
    """The values of a feature: integers, numbers or strings. An array of more dimensions is read row by row."""
    if isinstance(values, np.ndarray):
        values = values.reshape(-1)
    held = _plain(path, values)
    if all(isinstance(value, str) for value in held):
        return tuple(held)
    if any(isinstance(value, float) for value in held):
        return _floats(path, held)
    return _integers(path, held, "an integer, a number or a string, all of one kind")


def _user_id(user_id: Any) -> int | str:
    if type(user_id) is str or (type(user_id) is int and -(1 << 63) <= user_id < 1 << 63):
        return user_id
    if isinstance(user_id, str):
        return str(user_id)
    return int(_integers("user_id", [_item(user_id)], "an integer or a string", "")[0])


def _plain(path: str, values: Any) -> list[Any]:
    """Python's own values. Numbers of numpy among them become Python's."""
    for method in ("tolist", "to_list"):  # of numpy, pandas and pyarrow; of Polars
        if hasattr(values, method):
            values = getattr(values, method)()
    if not isinstance(values, list | tuple):
        raise InvalidQuery(path, f"must be a list or an array, got {values!r}; give [{values!r}]")
    return [_item(value) for value in values]


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _integers(path: str, values: list[Any], expected: str, place: str = "[{}]") -> Int64s:
    for i, value in enumerate(values):
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidQuery(path + place.format(i), f"must be {expected}, got {value!r}")
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidQuery(path + place.format(i), f"{value} does not fit into 64 bits")
    return np.array(values, np.int64)


def _floats(path: str, values: list[Any]) -> Float32s:
    for i, value in enumerate(values):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidQuery(f"{path}[{i}]", f"must be a number as the others are, got {value!r}")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype(np.float32)
    except OverflowError:
        raise InvalidQuery(path, "holds an integer that is too large for a number") from None
