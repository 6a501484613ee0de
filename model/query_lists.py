"""Queries as people write them in Python: lists where arrays belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from meshfold.model.errors import InvalidQuery
from meshfold.model.types import FeatureList, Float32s, Ids, Int64s, Query


def with_arrays(query: Query) -> Query:
    """The query with every list as its type says (model/types.py). Raises InvalidQuery with the path of a list that is
    none, or holds what it may not."""
    return replace(
        query,
        user_id=_user_id(query.user_id),
        history=ids_of_list("history", query.history),
        excluded_ids=ids_of_list("excluded_ids", query.excluded_ids),
        features={
            name: feature_of_list(f'features["{name}"]', values) for name, values in query.features.items()
        },
    )


def ids_of_list(path: str, values: Any) -> Ids:
    """Ids of one kind, integers or strings, from a list, a tuple, or an array of any library."""
    held = _plain(path, values)
    if all(isinstance(value, str) for value in held) and held:
        return tuple(held)
    return _integers(path, held, "an integer or a string, all of one kind")


def feature_of_list(path: str, values: Any) -> FeatureList:
    """The values of a feature: integers, numbers or strings."""
    held = _plain(path, values)
    if all(isinstance(value, str) for value in held):
        return tuple(held)
    if any(isinstance(value, float) for value in held):
        return _floats(path, held)
    return _integers(path, held, "an integer, a number or a string, all of one kind")


def _user_id(user_id: Any) -> int | str:
    if isinstance(user_id, str):
        return user_id
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
