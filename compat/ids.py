"""Ids in messages: integers in one field, strings in a sibling field (`history` and `history_keys`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from meshfold.compat.request_paths import SIBLINGS
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Ids, Int64s


def user_id_of(user_id: int, user_key: str) -> int | str:
    """The id of a user; 0 for none. Raises InvalidQuery where both fields are set."""
    if user_id and user_key:
        raise InvalidQuery("user_key", "is set, and user_id too; a user has one id: set one of both")
    return user_key or user_id


def ids_of(name: str, integers: Sequence[int], strings: Sequence[str]) -> Ids:
    """The ids of a list, by its name in a Query. Raises InvalidQuery where both of its fields are filled."""
    if not strings:
        return np.array(integers, np.int64)
    if integers:
        sent, sibling = SIBLINGS[name]
        raise InvalidQuery(
            sibling,
            f"holds {len(strings)} strings and {sent} {len(integers)} integers; item ids are of one kind",
        )
    return tuple(strings)


def refuse_two_kinds(lists: Mapping[str, Ids], named: Callable[[str, bool], str] | None = None) -> None:
    """Raises InvalidQuery where one list of a request has integers and another strings. lists: by path in the query.
    named: translates (path, whether it has strings) to the path in errors; None for no translation."""
    first: str | None = None
    for path, ids in lists.items():
        if not len(ids):
            continue
        strings = isinstance(ids, tuple)
        if first is not None and strings is not isinstance(lists[first], tuple):
            here, other = (named(path, strings), named(first, not strings)) if named else (path, first)
            said = (
                f"holds {kind_of(ids)} where {other} holds {kind_of(lists[first])}; item ids are of one kind"
            )
            raise InvalidQuery(here, said)
        first = path


def kind_of(ids: Ids) -> str:
    return "strings" if isinstance(ids, tuple) else "integers"


def columns_of(ids: Ids) -> tuple[Int64s | None, tuple[str, ...] | None]:
    """Ids as columns of the two fields, (integers, strings); None for the other kind."""
    return (None, ids) if isinstance(ids, tuple) else (ids, None)


def plain(ids: Ids) -> Sequence[Any]:
    """The ids as Python integers or strings, for messages."""
    return ids if isinstance(ids, tuple) else ids.tolist()


def fill_ids(ids: Ids, integers: Any, strings: Any) -> None:
    """Adds ids to the field of their kind. integers, strings: the fields' lists."""
    (strings if isinstance(ids, tuple) else integers).extend(plain(ids))
