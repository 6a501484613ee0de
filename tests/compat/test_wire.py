"""Counts from the wire beside those of what protobuf parses."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from meshfold.compat.wire import Counter, Scanner
from meshfold.kernels.wire.table import Scan, Verdict
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.protos.mesh.v1 import user_tower_pb2 as tower
from meshfold.protos.meshfold.v1 import retrieval_pb2 as native
from tests.compat.requests import embed_request, has_group, mutated, native_request, retrieve_request

MANY = 1 << 40
FILTERS = ("Filter.not", "All.filters", "Any.filters", "AtLeast.filters")
USER = {
    "history": Counter(("UserContext.history",), "UserContext"),
    "features": Counter(("UserContext.features",), "UserContext"),
    "values": Counter(
        ("IntList.values", "FloatList.values", "StringList.values"), "FeaturesEntry", "UserContext"
    ),
}
RETRIEVE = Scanner(
    pb.RetrieveRequest.DESCRIPTOR,
    {
        "history": Counter(("UserContext.history",)),
        "features": Counter(("UserContext.features",)),
        "values": Counter(("IntList.values", "FloatList.values", "StringList.values"), "FeaturesEntry"),
        "excluded": Counter(("RetrieveRequest.excluded_item_ids",)),
        "weights": Counter(("RetrieveRequest.task_weights",)),
        "nodes": Counter(("RetrieveRequest.filter", *FILTERS)),
        "matched": Counter(("Match.strings", "Match.ints")),
    },
    captures=("RetrieveRequest.surface", "RetrieveRequest.max_results", "UserContext.user_id"),
    level="Filter",
)
NATIVE = Scanner(
    native.RetrieveRequest.DESCRIPTOR,
    {
        "history": Counter(("RetrieveRequest.history",)),
        "values": Counter(
            ("FeatureColumn.ints", "FeatureColumn.floats", "FeatureColumn.strings"), "FeatureColumn"
        ),
        "weights": Counter(("RetrieveRequest.weights",)),
        "fields": Counter(("RetrieveRequest.fields",)),
    },
)
EMBED = Scanner(tower.EmbedRequest.DESCRIPTOR, {**USER, "users": Counter(("EmbedRequest.users",))})


def totals(scanner: Scanner, scan: Scan) -> dict[str, int]:
    return {name: scan.total(place) for place, name in enumerate(scanner.counters)}


def values(feature: types.FeatureValue) -> int:
    kind = feature.WhichOneof("kind")
    return len(getattr(feature, kind).values) if kind else 0


def filters(message: Any, depth: int = 1) -> tuple[int, int, int]:
    """Parts, levels and values of matches."""
    kind = message.WhichOneof("kind")
    part: Any = getattr(message, kind) if kind else None
    if kind == "match":
        return 1, depth, len(part.strings) + len(part.ints)
    inner = [part] if kind == "not" else getattr(part, "filters", [])
    counts = [filters(one, depth + 1) for one in inner]
    nodes, levels, matched = zip((0, depth, 0), *counts, strict=True)
    return 1 + sum(nodes), max(levels), sum(matched)


def expected(request: pb.RetrieveRequest) -> tuple[dict[str, int], int]:
    """Totals and levels as protobuf parses them."""
    nodes, levels, matched = filters(request.filter) if request.HasField("filter") else (0, 0, 0)
    return {
        "history": len(request.user.history),
        "features": len(request.user.features),
        "values": sum(map(values, request.user.features.values())),
        "excluded": len(request.excluded_item_ids),
        "weights": len(request.task_weights),
        "nodes": nodes,
        "matched": matched,
    }, levels


def test_counts_are_those_of_what_protobuf_parses() -> None:
    draw = random.Random(1)
    for _ in range(500):
        request = retrieve_request(draw)
        message = request.SerializeToString()
        scan = RETRIEVE.scan(message, MANY)
        assert (totals(RETRIEVE, scan), scan.levels) == expected(request), request
        assert message[slice(*scan.span(0))].decode() == request.surface
        assert (scan.number(1), scan.number(2)) == (request.max_results, request.user.user_id)


def test_the_largest_list_of_many_users_is_found() -> None:
    draw = random.Random(2)
    for _ in range(200):
        request = embed_request(draw)
        message = request.SerializeToString()
        scan = EMBED.scan(message, MANY)
        histories = [len(user.history) for user in request.users]
        assert scan.total(EMBED.counters.index("users")) == len(histories)
        history = scan.count(EMBED.counters.index("history"))
        assert (history.total, history.largest) == (sum(histories), max(histories, default=0))
        assert not history.largest or history.place == histories.index(history.largest)
        feature = scan.count(EMBED.counters.index("values"))
        if feature.largest:
            entry = types.UserContext.FeaturesEntry.FromString(message[feature.start : feature.end])
            assert values(entry.value) == feature.largest
            assert request.users[feature.place].features[entry.key] == entry.value


def test_columns_are_counted_by_column() -> None:
    draw = random.Random(3)
    for _ in range(200):
        request = native_request(draw)
        scan = NATIVE.scan(request.SerializeToString(), MANY)
        columns = [len(c.ints) + len(c.floats) + len(c.strings) for c in request.features]
        assert totals(NATIVE, scan) == {
            "history": len(request.history),
            "values": sum(columns),
            "weights": len(request.weights),
            "fields": len(request.fields),
        }
        assert scan.largest(1) == max(columns, default=0)


def test_messages_in_parts_are_merged() -> None:
    draw = random.Random(4)
    for _ in range(100):
        parts = [retrieve_request(draw, filtered=False) for _ in range(3)]
        message = b"".join(part.SerializeToString() for part in parts)
        counts = totals(RETRIEVE, RETRIEVE.scan(message, MANY))
        merged = expected(pb.RetrieveRequest.FromString(message))[0]
        # Of a key that comes twice a parser keeps the last.
        assert all(counts[name] == merged[name] for name in ("history", "excluded"))
        assert all(counts[name] >= merged[name] for name in counts)


def test_whatever_protobuf_parses_is_scanned() -> None:
    """Of messages with bytes changed. Groups apart, which proto3 has not."""
    draw = random.Random(5)
    parsed = 0
    for _ in range(5_000):
        message = mutated(draw, retrieve_request(draw).SerializeToString())
        scan = RETRIEVE.scan(message, MANY)
        try:
            request = pb.RetrieveRequest.FromString(message)
        except DecodeError:
            continue
        if scan.verdict is Verdict.MALFORMED:
            assert has_group(request), message
            continue
        parsed += 1
        counts, (merged, levels) = totals(RETRIEVE, scan), expected(request)
        assert all(counts[name] >= merged[name] for name in counts), message
        assert scan.levels >= levels
        assert message[slice(*scan.span(0))].decode() == request.surface
        assert scan.number(2) == request.user.user_id
    assert parsed > 500


@pytest.mark.parametrize(
    ("counters", "captures", "level", "name"),
    [
        ({"a": Counter(("RetrieveRequest.histroy",))}, (), "", "field RetrieveRequest.histroy"),
        ({"a": Counter(("UserContext.history",), "Usr")}, (), "", "message Usr"),
        ({"a": Counter(("UserContext.history",), "UserContext", "Usr")}, (), "", "message Usr"),
        ({}, ("surface",), "", "field surface"),
        ({}, (), "Filtr", "message Filtr"),
    ],
)
def test_a_name_that_the_message_does_not_hold_is_refused(
    counters: dict[str, Counter], captures: tuple[str, ...], level: str, name: str
) -> None:
    with pytest.raises(ValueError, match=f"mesh.v1.RetrieveRequest holds no {name}"):
        Scanner(pb.RetrieveRequest.DESCRIPTOR, counters, captures, level)
