"""Embed, Search and Score follow the modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from meshfold.compat import mesh_v1, meshfold_v1
from meshfold.compat.client import encode_request
from meshfold.compat.migration.methods import EMBED, METHODS, RETRIEVE, SCORE, SEARCH
from meshfold.compat.migration.stickiness import chosen
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.model.types import Query
from meshfold.protos.mesh.v1 import retrieval_pb2, scoring_pb2, user_tower_pb2
from meshfold.service.server import Server
from tests.compat.migration.conftest import Seen, ToldMesh, ask, request
from tests.compat.migration.test_proxy import nowhere, switch
from tests.waiting import wait_until

__all__ = ["nowhere"]
Start = Callable[..., Server]
Code = grpc.StatusCode


def embed(surface: str = "shop", *users: int) -> bytes:
    message = user_tower_pb2.EmbedRequest(surface=surface)
    for user in users or (7,):
        message.users.add(user_id=user, history=[1, 2])
    sent: bytes = message.SerializeToString()
    return sent


def score(user_id: int = 7, surface: str = "shop") -> bytes:
    message = scoring_pb2.ScoreRequest(surface=surface, user={"user_id": user_id}, item_ids=[1, 2, 3])
    sent: bytes = message.SerializeToString()
    return sent


@pytest.fixture
def channel(start: Start, store: Path) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(start(store).address) as channel:
        yield channel


def search_with(channel: grpc.Channel, values: list[float], surface: str = "shop") -> bytes:
    message = retrieval_pb2.SearchRequest(surface=surface, k=3)
    message.queries.add(values=values)
    sent: bytes = message.SerializeToString()
    return sent


def test_the_calls_are_those_of_the_protocol() -> None:
    assert [method.name for method in METHODS] == [adapter.METHOD for adapter in mesh_v1.ADAPTERS]
    assert [method.label for method in METHODS] == ["Retrieve", "Embed", "Search", "Score"]


def test_surface_and_user_are_read_from_the_wire() -> None:
    assert SCORE.scan(score(9, "video")) == Scanned("video", 9, b"")
    assert EMBED.scan(embed("video", 1, 2)) == Scanned("video", 0, b"")
    assert SEARCH.scan(b"\x0a\x04shop") == Scanned("shop", 0, b"")
    message = scoring_pb2.ScoreRequest(surface="s", user={"user_key": "AE22"})
    assert SCORE.scan(message.SerializeToString()) == Scanned("s", 0, b"", b"AE22")
    for method in METHODS:
        assert method.scan(b"\xff\xff") is None
        assert method.scan(b"") == Scanned("", 0, b"")


@pytest.mark.parametrize("method", [EMBED, SEARCH, SCORE])
@pytest.mark.parametrize("message", [b"", b"\xff no message", b"\x0a\x04shop"])
def test_bytes_go_to_the_mesh_unparsed_in_mesh(
    start: Start, nowhere: Path, mesh: ToldMesh, method: object, message: bytes
) -> None:
    name = method.name  # type: ignore[attr-defined]
    with grpc.insecure_channel(start(nowhere).address) as channel:
        got = ask(channel, message, method=name, authorization="Bearer x")
        assert (got.code, got.message, got.side) == (Code.OK, b"mesh " + message, "mesh")
        assert mesh.calls[0].metadata["authorization"] == "Bearer x"
        got = ask(channel, message, method=name, x_code="NOT_FOUND", x_details_bin=b"its own words")
        assert (got.code, got.details, got.side) == (Code.NOT_FOUND, "its own words", "mesh")


@pytest.mark.parametrize("mode", ["mesh", "mirror", "canary", "serve", "only"])
def test_each_mode_has_its_side(start: Start, store: Path, mesh: ToldMesh, seen: Seen, mode: str) -> None:
    server = start(store)
    with grpc.insecure_channel(server.address) as channel:
        # Embeddings of the model, whatever the mode is afterwards.
        switch(server, "only")
        embedded = ask(channel, embed(), method=EMBED.name).message
        vector = user_tower_pb2.EmbedResponse.FromString(embedded).users[0].embeddings[0].values
        search = search_with(channel, list(vector))
        switch(server, mode, 50 if mode == "canary" else 0)
        expected = "model" if mode in ("serve", "only") else "mesh"
        assert ask(channel, embed(), method=EMBED.name).side == expected
        got = ask(channel, search, method=SEARCH.name)
        assert (got.code, got.side) == (Code.OK, expected)
        sides = {}
        for user_id in range(1, 30):
            got = ask(channel, score(user_id), method=SCORE.name)
            assert got.code is Code.OK
            sides[user_id] = got.side
            if expected == "model":
                answer = scoring_pb2.ScoreResponse.FromString(got.message)
                assert len(answer.values) + len(answer.unknown_item_ids) == 3
        if mode == "canary":
            # A user is scored on the side on which it is recommended to.
            for user_id, side in sides.items():
                message = request(user_id)
                model = chosen(50, "shop", RETRIEVE.scan(message), message)
                assert side == ("model" if model else "mesh")
            switch(server, "canary", 100)
            assert ask(channel, embed(), method=EMBED.name).side == "model"
            assert ask(channel, search, method=SEARCH.name).side == "model"
        else:
            assert set(sides.values()) == {expected}
        # Another surface has the mode of the default.
        assert ask(channel, embed("video"), method=EMBED.name).side in ("mesh", "model")
    # They are neither shadowed nor recorded.
    assert not seen.answers
    assert not seen.shadows


def test_surfaces_have_modes_of_their_own(start: Start, store: Path) -> None:
    server = start(store)
    switch(server, "only", surface="shop")
    with grpc.insecure_channel(server.address) as channel:
        assert ask(channel, embed("shop"), method=EMBED.name).side == "model"
        assert ask(channel, embed(""), method=EMBED.name).side == "model"
        assert ask(channel, embed("video"), method=EMBED.name).side == "mesh"


def test_what_the_model_refuses_is_no_reason_to_search_with_its_vector_at_the_mesh(
    start: Start, store: Path, mesh: ToldMesh
) -> None:
    server = start(store)
    switch(server, "serve")
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, search_with(channel, [1.0]), method=SEARCH.name)
        assert (got.code, got.side) == (Code.INVALID_ARGUMENT, "model")
        assert not mesh.calls
        # A score stands alone: the mesh may know what the model refuses.
        message = scoring_pb2.ScoreRequest(surface="shop", value_formula="none").SerializeToString()
        got = ask(channel, message, method=SCORE.name)
        assert (got.code, got.side) == (Code.OK, "mesh")
        assert got.trailing["meshfold-fallback"] == "not_found"


def test_the_other_side_answers_where_one_is_away(
    start: Start, store: Path, nowhere: Path, mesh: ToldMesh
) -> None:
    server = start(store, fallback=True)
    with grpc.insecure_channel(server.address) as channel:
        mesh.stop()
        for method, message in ((EMBED, embed()), (SCORE, score())):
            got = ask(channel, message, method=method.name)
            assert (got.code, got.side, got.trailing["meshfold-fallback"]) == (
                Code.OK,
                "model",
                "unavailable",
            )
        mesh.start()
        wait_until(lambda: ask(channel, embed(), method=EMBED.name).side == "mesh")
        switch(server, "serve")
    # A model that is not there any more.
    with grpc.insecure_channel(start(nowhere).address) as channel:
        got = ask(channel, embed(), method=EMBED.name)
        assert (got.side, got.trailing["meshfold-fallback"]) == ("mesh", "unavailable")


def test_the_models_own_call_says_who_gave_it(channel: grpc.Channel) -> None:
    got = ask(channel, encode_request(Query("shop", 5)), method=meshfold_v1.METHOD)
    assert (got.code, got.side) == (Code.OK, "model")
    got = ask(channel, encode_request(Query("shop", -5)), method=meshfold_v1.METHOD)
    assert (got.code, got.side) == (Code.INVALID_ARGUMENT, "model")
