"""mesh.v1 belongs to its callers: it grows, and nothing else. frozen.py says what to do where this fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.model.filter.expression import All, AtLeast, Exists, Match, Not, Range
from meshfold.model.filter.expression import Any as AnyOf
from meshfold.model.types import (
    Candidates,
    Embeddings,
    EmbedQuery,
    Neighbours,
    Query,
    ScoreQuery,
    Scores,
    SearchQuery,
    User,
)
from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, user_tower_pb2
from tests.protos.frozen import FILE, broken, current, lines_of

GOLDEN: dict[str, Any] = json.loads((FILE.parent / "golden.json").read_text())
FROZEN = FILE.read_text().splitlines()


def test_nothing_that_callers_depend_on_has_changed() -> None:
    told = broken(FROZEN, current())
    assert not told, told


def field_of(files: list[FileDescriptorProto], message: str, field: str) -> FieldDescriptorProto:
    (found,) = (f for m in messages_of(files) if m.name == message for f in m.field if f.name == field)
    return found


def messages_of(files: list[FileDescriptorProto]) -> list[DescriptorProto]:
    return [message for file in files for message in file.message_type]


def message_of(files: list[FileDescriptorProto], name: str) -> DescriptorProto:
    (found,) = (m for m in messages_of(files) if m.name == name)
    return found


def remove_field(files: list[FileDescriptorProto]) -> None:
    message_of(files, "Candidate").field.remove(field_of(files, "Candidate", "similarity"))


def remove_message(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for message in list(file.message_type):
            if message.name == "AtLeast":
                file.message_type.remove(message)


def renumber(files: list[FileDescriptorProto]) -> None:
    field_of(files, "ScoreRequest", "item_ids").number = 9


def retype(files: list[FileDescriptorProto]) -> None:
    field_of(files, "Candidate", "value").type = FieldDescriptorProto.TYPE_DOUBLE


def retype_values_of_map(files: list[FileDescriptorProto]) -> None:
    (entry,) = message_of(files, "ScoreRequest").nested_type
    entry.field[1].type = FieldDescriptorProto.TYPE_DOUBLE


def rename(files: list[FileDescriptorProto]) -> None:
    field_of(files, "SearchRequest", "k").name = "max_results"


def make_single(files: list[FileDescriptorProto]) -> None:
    field_of(files, "UserContext", "history").label = FieldDescriptorProto.LABEL_OPTIONAL


def lose_presence(files: list[FileDescriptorProto]) -> None:
    bound = field_of(files, "Range", "min")
    bound.proto3_optional = False
    bound.ClearField("oneof_index")


def leave_oneof(files: list[FileDescriptorProto]) -> None:
    field_of(files, "Filter", "exists").ClearField("oneof_index")


def rename_method(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for service in file.service:
            if service.name == "UserTowerService":
                service.method[0].name = "EmbedUsers"


def stream(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for service in file.service:
            service.method[0].server_streaming = True


Change = Callable[[list[FileDescriptorProto]], None]
BREACHES: dict[str, tuple[Change, str]] = {
    "removed": (remove_field, "mesh.v1.Candidate.similarity = 3: float\n    is now gone"),
    "message removed": (remove_message, "mesh.v1.AtLeast.count = 1: int32\n    is now gone"),
    "renumbered": (
        renumber,
        "ScoreRequest.item_ids = 3: repeated int64\n    is now mesh.v1.ScoreRequest.item_ids = 9",
    ),
    "retyped": (retype, "Candidate.value = 2: float\n    is now mesh.v1.Candidate.value = 2: double"),
    "map retyped": (
        retype_values_of_map,
        "is now mesh.v1.ScoreRequest.task_weights = 4: map<string, double>",
    ),
    "renamed": (
        rename,
        "SearchRequest.k = 5: int32\n    is now mesh.v1.SearchRequest.max_results = 5: int32",
    ),
    "no list": (make_single, "is now mesh.v1.UserContext.history = 2: int64"),
    "no presence": (
        lose_presence,
        "Range.min = 2: optional double\n    is now mesh.v1.Range.min = 2: double",
    ),
    "no oneof": (leave_oneof, "is now mesh.v1.Filter.exists = 3: mesh.v1.Exists\n"),
    "method renamed": (rename_method, "/mesh.v1.UserTowerService/Embed: mesh.v1.EmbedRequest -> mesh.v1.Emb"),
    "streamed": (
        stream,
        "is now /mesh.v1.ScoringService/Score: mesh.v1.ScoreRequest -> stream mesh.v1.Score",
    ),
}


@pytest.mark.parametrize("case", BREACHES)
def test_a_breach_is_told_with_what_to_do(case: str) -> None:
    change, said = BREACHES[case]
    files = current()
    change(files)
    told = broken(FROZEN, files)
    assert said in told
    assert "Put it back as it was" in told


def test_what_is_added_is_no_breach() -> None:
    files = current()
    added = message_of(files, "RetrieveRequest").field.add(name="locale", number=10)
    added.type, added.label = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.LABEL_OPTIONAL
    files[0].message_type.add(name="Page").field.add(
        name="size", number=1
    ).type = FieldDescriptorProto.TYPE_INT32
    assert len(lines_of(files)) == len(lines_of(current())) + 2
    assert not broken(FROZEN, files)


def message_name(golden: str) -> str:
    """Of "ScoreRequest" and of "ScoreRequest with string ids"."""
    return golden.partition(" ")[0]


KINDS: dict[str, type[Message]] = {
    name: getattr(module, message_name(name))
    for module in (orchestrator_pb2, retrieval_pb2, scoring_pb2, user_tower_pb2)
    for name in GOLDEN
    if hasattr(module, message_name(name))
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_say_what_they_said(name: str) -> None:
    held, says = bytes.fromhex(GOLDEN[name]["bytes"]), GOLDEN[name]["says"]
    assert MessageToDict(KINDS[name].FromString(held), preserving_proto_field_name=True) == says
    assert ParseDict(says, KINDS[name]()).SerializeToString(deterministic=True) == held


def test_the_golden_bytes_hold_every_field() -> None:
    held = {
        place
        for name in GOLDEN
        for place in set_in(KINDS[name].FromString(bytes.fromhex(GOLDEN[name]["bytes"])))
    }
    assert {line.partition(" ")[0] for line in FROZEN if line.startswith("mesh")} <= held


def set_in(message: Any) -> Iterator[str]:
    for field, value in message.ListFields():
        yield field.full_name
        entry = field.message_type
        if entry is None:
            continue
        if entry.GetOptions().map_entry:
            values = list(value.values())
        else:
            values = list(value) if hasattr(value, "append") or hasattr(value, "add") else [value]
        for inner in values:
            if isinstance(inner, Message):
                yield from set_in(inner)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*values: Any) -> Any:
    return np.array(values, np.float32)


AGED = User(-7, ints(1, 300, 2**63 - 1), {"age": ints(34, -1)})
NAMED = User("AE22", ("vid_1", "\U0001f3ac"), {"age": ints(34)})
CLOCKED = User(2**63 - 1, ints(), {"clock": floats(0.5, -0.25)})
FILTER = All(
    (
        Match("language", ("en", "es"), (1, -2)),
        Range("year", 1990.5, 2020.0, inclusive=True),
        Range("price", 0.0, None),
        AnyOf((Exists("tags"),)),
        AtLeast(1, (Exists("year"),)),
        Not(Match("author", (), (12,))),
    )
)
REQUESTS: dict[str, tuple[Any, Any]] = {
    "RetrieveRequest": (
        retrieve,
        Query(
            "movies",
            1000,
            request_id="r-1",
            user_id=AGED.user_id,
            history=AGED.history,
            features=AGED.features,
            filter=FILTER,
            excluded_ids=ints(9, -(2**63)),
            task_weights={"like": 0.5},
            value_formula="mixed",
            explain=True,
        ),
    ),
    "EmbedRequest": (
        embed,
        EmbedQuery("movies", (AGED, CLOCKED, User(features={"genres": ("drama", "été")}))),
    ),
    "SearchRequest": (
        search,
        SearchQuery("movies", 100, (floats(0.5, -1), floats(2, 0.125)), FILTER, ints(9)),
    ),
    "ScoreRequest": (score, ScoreQuery("movies", CLOCKED, ints(5, 7, -3, 5), {"like": 0.5}, "mixed")),
    "RetrieveRequest with string ids": (
        retrieve,
        Query("movies", 10, user_id="AE22", history=("vid_1", "été"), excluded_ids=("vid_1", "9")),
    ),
    "EmbedRequest with string ids": (embed, EmbedQuery("movies", (NAMED, User("7"), User()))),
    "SearchRequest with string ids": (
        search,
        SearchQuery("movies", 100, (floats(0.5, -1),), excluded_ids=("vid_1", "été")),
    ),
    "ScoreRequest with string ids": (
        score,
        ScoreQuery("movies", NAMED, ("vid_1", "x", "\U0001f3ac", "vid_1")),
    ),
}
TASKS = ("like", "watch")
ANSWERS: dict[str, tuple[Any, Any, Any]] = {
    "RetrieveResponse": (
        retrieve,
        REQUESTS["RetrieveRequest"][1],
        Candidates(
            TASKS,
            "v1",
            ints(5, -3),
            values=floats(0.75, -1.5),
            similarities=floats(0.5, -2),
            task_scores=floats([0.5, 0.25], [-2, -3]),
            explain={"plan": "probing"},
        ),
    ),
    "EmbedResponse": (
        embed,
        REQUESTS["EmbedRequest"][1],
        Embeddings(TASKS, "v1", floats([[0.5, -1], [2, 0.125]], [[0, 0], [0, 0]])),
    ),
    "SearchResponse": (
        search,
        REQUESTS["SearchRequest"][1],
        Neighbours("v1", (ints(5, -3), ints()), (floats(0.75, -0.5), floats())),
    ),
    "ScoreResponse": (
        score,
        REQUESTS["ScoreRequest"][1],
        Scores(
            TASKS,
            "v1",
            ints(5, -3, 5),
            values=floats(0.75, -1.5, 0.75),
            task_scores=floats([0.5, 0.25], [-2, -3], [0.5, 0.25]),
            unknown_ids=ints(7),
        ),
    ),
    "RetrieveResponse with string ids": (
        retrieve,
        REQUESTS["RetrieveRequest with string ids"][1],
        Candidates(
            ("like",),
            "v1",
            ("vid_2", "\U0001f3ac"),
            values=floats(0.75, -1.5),
            similarities=floats(0.5, -2),
            task_scores=floats([0.5], [-2]),
        ),
    ),
    "SearchResponse with string ids": (
        search,
        REQUESTS["SearchRequest with string ids"][1],
        Neighbours("v1", (("vid_2", "été"), ()), (floats(0.75, -0.5), floats())),
    ),
    "ScoreResponse with string ids": (
        score,
        REQUESTS["ScoreRequest with string ids"][1],
        Scores(
            ("like",),
            "v1",
            ("vid_1", "\U0001f3ac", "vid_1"),
            values=floats(0.75, -1.5, 0.75),
            task_scores=floats([0.5], [-2], [0.5]),
            unknown_ids=("x",),
        ),
    ),
}


def plain(value: Any) -> Any:
    """A value of values, arrays with their type."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(inner) for inner in value)
    if is_dataclass(value):
        return type(value).__name__, [plain(getattr(value, f.name)) for f in fields(value)]
    return value


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_mean_what_they_meant(name: str) -> None:
    adapter, query = REQUESTS[name]
    assert plain(adapter.decode(bytes.fromhex(GOLDEN[name]["bytes"]))) == plain(query)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_the_bytes_they_were(name: str) -> None:
    adapter, query, answer = ANSWERS[name]
    assert adapter.encode(query, answer).hex() == GOLDEN[name]["bytes"]


def test_there_is_golden_data_for_every_call() -> None:
    calls = [line for line in FROZEN if line.startswith("/")]
    assert {*REQUESTS, *ANSWERS} == set(GOLDEN)
    assert len({message_name(name) for name in GOLDEN}) == 2 * len(calls)
