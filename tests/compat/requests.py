"""Random requests of every call, small enough to make by the thousand."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import retrieval_pb2 as search
from meshfold.protos.mesh.v1 import scoring_pb2 as scoring
from meshfold.protos.mesh.v1 import user_tower_pb2 as tower
from meshfold.protos.meshfold.v1 import retrieval_pb2 as native

# The wire type.
GROUP = 3


def retrieve_request(draw: random.Random, filtered: bool = True) -> pb.RetrieveRequest:
    strings = draws_strings(draw)
    return pb.RetrieveRequest(
        request_id=word(draw),
        surface=word(draw),
        user=user(draw, strings) if draw.randrange(4) else None,
        filter=filter_(draw, 1) if filtered and draw.randrange(4) else None,
        max_results=draw.randrange(1, 8),
        **ids(draw, strings, "excluded_item_ids", "excluded_item_keys"),
        task_weights={word(draw): 1.0 for _ in range(draw.randrange(4))},
        value_formula=word(draw),
    )


def search_request(draw: random.Random) -> search.SearchRequest:
    return search.SearchRequest(
        surface=word(draw),
        k=draw.randrange(1, 8),
        queries=[{"values": [0.5] * draw.randrange(4)} for _ in range(draw.randrange(4))],
        filter=filter_(draw, 1) if draw.randrange(4) else None,
        **ids(draw, draws_strings(draw), "excluded_item_ids", "excluded_item_keys"),
    )


def embed_request(draw: random.Random) -> tower.EmbedRequest:
    strings = draws_strings(draw)
    return tower.EmbedRequest(
        surface=word(draw), users=[user(draw, strings) for _ in range(draw.randrange(5))]
    )


def score_request(draw: random.Random) -> scoring.ScoreRequest:
    strings = draws_strings(draw)
    return scoring.ScoreRequest(
        surface=word(draw),
        user=user(draw, strings),
        **ids(draw, strings, "item_ids", "item_keys"),
        task_weights={word(draw): 1.0 for _ in range(draw.randrange(4))},
        value_formula=word(draw),
    )


def native_request(draw: random.Random) -> native.RetrieveRequest:
    strings = draws_strings(draw)
    weighted = list({word(draw) for _ in range(draw.randrange(4))})
    columns = {
        word(draw): {kind: list_} for kind, list_ in (values(draw) for _ in range(draw.randrange(5))) if list_
    }
    return native.RetrieveRequest(
        surface=word(draw),
        max_results=draw.randrange(1, 8),
        **ids(draw, strings, "history", "history_keys"),
        features=[{"name": name, **column} for name, column in columns.items()],
        filter=filter_(draw, 1) if draw.randrange(4) else None,
        **ids(draw, strings, "excluded_item_ids", "excluded_item_keys"),
        weighted_tasks=weighted,
        weights=[1.0] * len(weighted),
        fields=[word(draw) for _ in range(draw.randrange(4))],
    )


def user(draw: random.Random, strings: bool) -> dict[str, Any]:
    """strings: whether ids of items are strings; those of users may be others."""
    features = {}
    for _ in range(draw.randrange(5)):
        kind, list_ = values(draw)
        features[word(draw)] = {kind: {"values": list_}}
    user_id = {"user_key": word(draw)} if draw.randrange(2) else {"user_id": draw.getrandbits(63) - (1 << 62)}
    return {**user_id, **ids(draw, strings, "history", "history_keys"), "features": features}


def values(draw: random.Random) -> tuple[str, list[Any]]:
    """A kind of feature and its values."""
    kind = draw.choice(("ints", "floats", "strings"))
    made: dict[str, Any] = {"ints": draw.getrandbits(40), "floats": 0.5, "strings": word(draw)}
    return kind, [made[kind]] * draw.randrange(6)


def filter_(draw: random.Random, depth: int) -> dict[str, Any]:
    kind = draw.choice(("match", "match", "range", "exists", "all", "any", "at_least", "not"))
    if depth == 5 and kind in ("all", "any", "at_least", "not"):
        kind = "exists"
    match kind:
        case "match":
            return {
                "match": {
                    "field": "f",
                    "strings": [word(draw) for _ in range(draw.randrange(3))],
                    "ints": [7],
                }
            }
        case "range":
            return {"range": {"field": "f", "min": 1.0}}
        case "exists":
            return {"exists": {"field": "f"}}
        case "not":
            return {"not": filter_(draw, depth + 1)}
    return {kind: {"filters": [filter_(draw, depth + 1) for _ in range(draw.randrange(4))]}}


def draws_strings(draw: random.Random) -> bool:
    """Whether a request's item ids are strings."""
    return not draw.randrange(3)


def ids(draw: random.Random, strings: bool, integer_field: str, string_field: str) -> dict[str, Any]:
    """A list of item ids in the field of its kind."""
    count = draw.randrange(8)
    if strings:
        return {string_field: [word(draw) for _ in range(count)]}
    return {integer_field: [draw.getrandbits(draw.choice((7, 40))) for _ in range(count)]}


def word(draw: random.Random) -> str:
    return draw.choice("abcdefé") * draw.randrange(1, 6)


def mutated(draw: random.Random, message: bytes) -> bytes:
    """With bytes changed, left out and put in."""
    changed = bytearray(message)
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(changed) + 1)
        changed[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
    return bytes(changed)


def has_group(message: Any) -> bool:
    """Whether a group is among the unknown fields of a message or of those in it."""
    if any(field.wire_type == GROUP for field in UnknownFieldSet(message)):
        return True
    set_ = [value for field, value in message.ListFields() if field.message_type]
    inner = [one for value in set_ for one in (value if isinstance(value, Sequence) else [value])]
    maps = [one for value in inner if isinstance(value, Mapping) for one in value.values()]
    return any(has_group(one) for one in (*inner, *maps) if isinstance(one, Message))
