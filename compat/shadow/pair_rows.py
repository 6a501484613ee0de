"""Converts rows of files into pairs and answers, checking every value, and pairs into rows.

A row is a mapping from column names to plain values. Columns of a pair:

    request_id, surface, user_key, unix_ms, max_results, filter, request, is_redacted, served_by, slices

and for each side, with the prefix `mesh_`, `model_` or `again_`:

    item_ids, scores, status, latency_ms, version

A row that is an answer has the first columns, `side`, and the second columns without a prefix.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from meshfold.compat.shadow.pairs import OK, ItemIds, Pair, PairSide, SideAnswer

COMMON = (
    "request_id",
    "surface",
    "user_key",
    "unix_ms",
    "max_results",
    "filter",
    "request",
    "is_redacted",
    "served_by",
    "slices",
)
OF_SIDE = ("item_ids", "scores", "status", "latency_ms", "version")
SIDE = "side"

_MOST_ITEMS = 100_000
_MOST_SLICES = 64
_MOST_SLICE_CHARACTERS = 200
_INT64 = 1 << 63
# Largest integer up to which float64 represents every integer.
_EXACT = 1 << 53
_STATUSES = frozenset(code.name for code in grpc.StatusCode)
_SERVERS = ("", PairSide.MESH, PairSide.MODEL)

NAN_SCORES = "answers whose scores are NaN: compared without scores"

# Called with a note on a value that is left out of an accepted row.
Note = Callable[[str], None]


class BadRow(Exception):
    """A skipped row. Its text is the reason by which it is counted."""


def pair_of(row: Mapping[str, Any], note: Note) -> Pair:
    """The pair of a row. Raises BadRow."""
    sides = {str(side): side_of(row, f"{side}_", note) for side in PairSide}
    if all(answer is None for answer in sides.values()):
        raise BadRow("rows without an answer of any side")
    return joined(common_of(row), sides)


def joined(common: Mapping[str, Any], sides: Mapping[str, SideAnswer | None]) -> Pair:
    """The pair of some answers, given by side. common: the result of common_of. Raises BadRow."""
    kinds = {type(answer.item_ids[0]) for answer in sides.values() if answer and answer.item_ids}
    if len(kinds) > 1:
        raise BadRow("rows with integer ids on one side and strings on another")
    return Pair(
        **common,
        mesh=sides.get(PairSide.MESH),
        model=sides.get(PairSide.MODEL),
        again=sides.get(PairSide.AGAIN),
    )


def common_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Pair that belong to no side. Raises BadRow."""
    served_by = _text(row, "served_by")
    if served_by not in _SERVERS:
        raise BadRow("rows whose served_by is neither mesh nor model")
    request_id = row.get("request_id")
    if request_id is None or request_id == "":
        raise BadRow("rows without a request_id")
    return {
        "request_id": _id(row, "request_id"),
        "surface": _text(row, "surface"),
        "user_key": _id(row, "user_key"),
        "unix_ms": _count(row, "unix_ms"),
        "max_results": _count(row, "max_results"),
        "filter": None if row.get("filter") is None else _text(row, "filter"),
        "request": _bytes(row.get("request")),
        "is_redacted": _truth(row, "is_redacted"),
        "served_by": served_by,
        "slices": _slices(row.get("slices")),
    }


def side_of(row: Mapping[str, Any], prefix: str, note: Note) -> SideAnswer | None:
    """The answer in the columns with a prefix; None where there are neither items nor a status.

    Items without a status count as an OK answer. Raises BadRow.
    """
    ids, status = row.get(f"{prefix}item_ids"), row.get(f"{prefix}status")
    if ids is None and status is None:
        return None
    status = OK if status is None else _text(row, f"{prefix}status")
    if status not in _STATUSES:
        raise BadRow("rows whose status is none of gRPC's, such as OK or UNAVAILABLE")
    item_ids = () if ids is None else _item_ids(ids)
    if item_ids and status != OK:
        raise BadRow("rows with items of an answer whose status is not OK")
    latency_ms = _number(row, f"{prefix}latency_ms")
    if latency_ms < 0 or math.isinf(latency_ms):
        raise BadRow("rows whose latency_ms is negative or infinite")
    scores = _scores(row.get(f"{prefix}scores"), len(item_ids))
    if math.isnan(sum(scores)) and any(map(math.isnan, scores)):
        note(NAN_SCORES)
        scores = ()
    return SideAnswer(item_ids, scores, status, latency_ms, _text(row, f"{prefix}version"))


def row_of(pair: Pair) -> dict[str, Any]:
    """The row of a pair."""
    row: dict[str, Any] = {name: getattr(pair, name) for name in COMMON}
    row["slices"] = dict(pair.slices)
    for side in PairSide:
        answer: SideAnswer | None = getattr(pair, side)
        for name in OF_SIDE:
            row[f"{side}_{name}"] = None if answer is None else getattr(answer, name)
    return row


def _item_ids(value: Any) -> ItemIds:
    ids = _list(value, "item_ids")
    kinds = set(map(type, ids))
    if kinds <= {int}:
        if ids and not (min(ids) >= -_INT64 and max(ids) < _INT64):
            raise BadRow("rows with item ids that no signed 64 bits hold; write such ids as strings")
        return tuple(ids)
    if kinds == {str}:
        _check_encodable("".join(ids))
        return tuple(ids)
    if kinds <= {int, float}:
        if not all(float(i).is_integer() and abs(i) <= _EXACT for i in ids):
            raise BadRow("rows with item ids that are NaN or no whole numbers")
        return tuple([int(i) for i in ids])
    if type(None) in kinds:
        raise BadRow("rows with item ids that are null")
    raise BadRow("rows with item ids that are not all integers or all strings")


def _scores(value: Any, items: int) -> tuple[float, ...]:
    """The scores of a row; null becomes NaN."""
    if value is None:
        return ()
    scores = _list(value, "scores")
    if scores and len(scores) != items:
        raise BadRow("rows with more or fewer scores than items")
    kinds = set(map(type, scores))
    if kinds == {float}:
        return tuple(scores)
    if not kinds <= {int, float, type(None)}:
        raise BadRow("rows with scores that are no numbers")
    try:
        return tuple([math.nan if score is None else float(score) for score in scores])
    except OverflowError:
        raise BadRow("rows with scores that are no numbers") from None


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRow(f"rows whose {name} are no list")
    if len(value) > _MOST_ITEMS:
        raise BadRow(f"rows with more than {_MOST_ITEMS} {name}")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"rows whose {name} is no text")
    _check_encodable(value)
    return value


def _check_encodable(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRow("rows with half a surrogate pair in a text") from None


def _id(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return str(value) if type(value) is int else _text(row, name)


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        raise BadRow(f"rows whose {name} is no number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _count(row: Mapping[str, Any], name: str) -> int:
    number = _number(row, name)
    if math.isnan(number):
        return 0
    if not (number.is_integer() and 0 <= number < _INT64):
        raise BadRow(f"rows whose {name} is negative or no whole number")
    return int(row[name])


def _truth(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRow(f"rows whose {name} is neither true nor false")
    return bool(value)


def _bytes(value: Any) -> bytes:
    """Bytes of a row; base64 in JSON."""
    if value is None:
        return b""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise BadRow("rows whose request is no base64") from None
    if not isinstance(value, bytes):
        raise BadRow("rows whose request holds no bytes")
    return value


def _slices(value: Any) -> dict[str, str]:
    """The slices in an object or a list of (key, value), without null values."""
    if value is None:
        return {}
    try:
        entries = [(name, entry) for name, entry in dict(value).items() if entry is not None]
    except (TypeError, ValueError):
        raise BadRow("rows whose slices are no names with values") from None
    if len(entries) > _MOST_SLICES:
        raise BadRow(f"rows with more than {_MOST_SLICES} slices")
    return {_slice_text(name): _slice_text(entry) for name, entry in entries}


def _slice_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise BadRow("rows with slices that are neither texts nor numbers")
    text = str(value)
    if len(text) > _MOST_SLICE_CHARACTERS:
        raise BadRow(f"rows with slices of more than {_MOST_SLICE_CHARACTERS} characters")
    _check_encodable(text)
    return text
