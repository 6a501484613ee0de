"""Checks and conversion of queries from Python: lists become arrays, wrong types are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import Expression
from meshfold.model.limits import NO_LIMITS, check
from meshfold.model.query_parts import (
    by_name,
    cap,
    check_expression,
    names,
    shown,
    text,
    texts,
    weights,
    whole,
)
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

QueryT = TypeVar("QueryT", bound=AnyQuery)


def checked(query: QueryT) -> QueryT:
    """The query from Python converted for a runner: with_arrays(query).

    Raises InvalidQuery for invalid values, such as a weight that is not finite. Sizes are not limited.
    """
    query = with_arrays(query)
    check(query, NO_LIMITS)
    return query


def with_arrays(query: QueryT) -> QueryT:
    """The query with each part converted to its declared type (model/types.py); the same object if none changes.

    Raises InvalidQuery with the path of a part of another type, or of an invalid element.
    """
    made: Any = query
    text("surface", query.surface)
    match query:
        case Query():
            user = _user(query.user)
            parts = {"user_id": user.user_id, "history": user.history, "features": user.features}
            text("request_id", query.request_id)
            made = _with(
                query,
                **parts,
                **_valued(query),
                max_results=whole("max_results", query.max_results),
                filter=_filter(query.filter),
                excluded_ids=_ids("excluded_ids", query.excluded_ids),
                max_per_value=cap("max_per_value", query.max_per_value),
                fields=names("fields", query.fields),
                explain=_flag("explain", query.explain),
            )
        case EmbedQuery():
            users = tuple(_user(user, f"users[{i}]") for i, user in enumerate(_listed("users", query.users)))
            made = _with(query, users=_kept(users, query.users))
        case SearchQuery():
            vectors = tuple(
                _vector(f"queries[{i}]", vector) for i, vector in enumerate(_listed("queries", query.queries))
            )
            made = _with(
                query,
                k=whole("k", query.k),
                queries=_kept(vectors, query.queries),
                filter=_filter(query.filter),
                excluded_ids=_ids("excluded_ids", query.excluded_ids),
            )
        case ScoreQuery():
            made = _with(
                query,
                user=_user(query.user, "user", ""),
                item_ids=_ids("item_ids", query.item_ids),
                **_valued(query),
            )
    return made  # type: ignore[no-any-return]


def _user(user: Any, path: str = "", prefix: str | None = None) -> User:
    """Converts a user. path: of the user. prefix: of its parts; None for the path and a dot."""
    if not isinstance(user, User):
        raise InvalidQuery(path, f"must be a User, got {shown(user)}")
    if prefix is None:
        prefix = f"{path}." if path else ""
    features: Mapping[str, FeatureList] = by_name(f"{prefix}features", user.features, '{"hour": [8]}')
    if not all(_is_array(v, np.int64, np.float32) or _is_strings(v) for v in features.values()):
        features = {name: feature_of_list(f'{prefix}features["{name}"]', v) for name, v in features.items()}
    for name, values in features.items():
        if isinstance(values, tuple):
            texts(f'{prefix}features["{name}"]', values)
    history = _ids(f"{prefix}history", user.history)
    user_id = _user_id(f"{prefix}user_id", user.user_id)
    made: User = _with(user, user_id=user_id, history=history, features=features)
    return made


def _valued(query: Query | ScoreQuery) -> dict[str, Any]:
    """The converted parts of a query that determine the values of results."""
    text("value_formula", query.value_formula)
    return {"task_weights": weights("task_weights", query.task_weights)}


def _filter(expression: Any) -> Expression | None:
    if expression is not None:
        check_expression(expression)
    return expression  # type: ignore[no-any-return]


def _flag(path: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InvalidQuery(path, f"must be True or False, got {shown(value)}")
    return bool(value)


def _listed(path: str, values: Any) -> Any:
    """The values, checked to be a list, a tuple or an array of any library."""
    is_sequence = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    if not is_sequence or isinstance(values, str | bytes | Mapping):
        raise InvalidQuery(path, f"must be a list, got {shown(values)}")
    return values


def _kept(made: tuple[Any, ...], given: Any) -> tuple[Any, ...]:
    """The given tuple where each element is the same object as in `made`, else `made`."""
    if type(given) is tuple and all(one is other for one, other in zip(made, given, strict=True)):
        return given
    return made


def _with(whole: Any, **parts: Any) -> Any:
    """The object with changed parts; the same object where they are unchanged."""
    changed = {name: part for name, part in parts.items() if part is not getattr(whole, name)}
    return replace(whole, **changed) if changed else whole


def _ids(path: str, values: Any) -> Ids:
    if _is_array(values, np.int64):
        return values  # type: ignore[no-any-return]
    if not _is_strings(values):
        return ids_of_list(path, values)
    texts(path, values)
    return values  # type: ignore[no-any-return]


def _vector(path: str, values: Any) -> Float32s:
    if _is_array(values, np.float32):
        return values  # type: ignore[no-any-return]
    return _floats(path, _plain(path, values))


def _is_array(values: Any, *dtypes: type[np.generic]) -> bool:
    return type(values) is np.ndarray and values.ndim == 1 and values.dtype.type in dtypes


def _is_strings(values: Any) -> bool:
    return type(values) is tuple and set(map(type, values)) <= {str}


def ids_of_list(path: str, values: Any) -> Ids:
    """Ids of one kind, integers or strings, from a list, a tuple, or an array of any library."""
    plain = _plain(path, values)
    if strings := _strings(path, plain, "an integer or a string, all of one kind"):
        return strings
    # Libraries store integers with a missing value as floats, the missing one as NaN.
    for i, value in enumerate(plain):
        if isinstance(value, float) and value != value:
            raise InvalidQuery(f"{path}[{i}]", "must be an integer or a string, got nan, a missing value")
    return _integers(path, plain, "an integer or a string, all of one kind")


def feature_of_list(path: str, values: Any) -> FeatureList:
    """The values of a feature: integers, numbers or strings. An array of more dimensions is read row by row."""
    if isinstance(values, np.ndarray):
        values = values.reshape(-1)
    plain = _plain(path, values)
    if not plain:
        return ()
    if strings := _strings(path, plain, "an integer, a number or a string, all of one kind"):
        return strings
    if any(isinstance(value, float) for value in plain):
        return _floats(path, plain)
    return _integers(path, plain, "an integer, a number or a string, all of one kind")


def _strings(path: str, values: list[Any], expected: str) -> tuple[str, ...]:
    """The values where the first is a string, else (). Raises InvalidQuery for a later value that is no string."""
    if not values or not isinstance(values[0], str):
        return ()
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidQuery(f"{path}[{i}]", f"must be {expected}, got {shown(value)}")
    made = tuple(map(str, values))
    texts(path, made)
    return made


def _user_id(path: str, user_id: Any) -> int | str:
    if type(user_id) is int and -(1 << 63) <= user_id < 1 << 63:
        return user_id
    if isinstance(user_id, str):
        text(path, user_id)
        return user_id if type(user_id) is str else str(user_id)
    return int(_integers(path, [_item(user_id)], "an integer or a string", "")[0])


def _plain(path: str, values: Any) -> list[Any]:
    """A list of plain Python values from a list, a tuple or an array; numpy scalars are converted."""
    for method in ("tolist", "to_list"):  # tolist: numpy, pandas, pyarrow; to_list: Polars
        if hasattr(values, method):
            values = getattr(values, method)()
    if not isinstance(values, list | tuple):
        raise InvalidQuery(path, f"must be a list or an array, got {shown(values)}; give [{shown(values)}]")
    return [_item(value) for value in values]


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _integers(path: str, values: list[Any], expected: str, place: str = "[{}]") -> Int64s:
    for i, value in enumerate(values):
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidQuery(path + place.format(i), f"must be {expected}, got {shown(value)}")
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidQuery(path + place.format(i), f"{shown(value)} does not fit into 64 bits")
    return np.array(values, np.int64)


def _floats(path: str, values: list[Any]) -> Float32s:
    for i, value in enumerate(values):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidQuery(f"{path}[{i}]", f"must be a number as the others are, got {shown(value)}")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype(np.float32)
    except OverflowError:
        raise InvalidQuery(path, "holds an integer that is too large for a number") from None
