"""A caller's own protocol, served by `meshfold serve` and asked with the caller's own generated classes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

pb: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")
METHOD = "/acme.recs.v1.Recommender/Recommend"


@pytest.fixture(scope="module")
def recommend(channel: grpc.Channel) -> Callable[..., Any]:
    call = channel.unary_unary(
        METHOD,
        request_serializer=pb.RecommendRequest.SerializeToString,
        response_deserializer=pb.RecommendResponse.FromString,
    )
    return lambda **request: call(pb.RecommendRequest(**request), timeout=20)


def test_a_caller_is_answered_in_its_own_protocol(recommend: Callable[..., Any]) -> None:
    answer = recommend(page="shop", watched=["vid_12", "vid_40"], limit=5, languages=["de"], year_from=1950)
    assert len(answer.videos) == 5
    assert answer.model
    scores = [video.score for video in answer.videos]
    assert scores == sorted(scores, reverse=True)
    for video in answer.videos:
        number = int(video.id.removeprefix("vid_"))
        # Items 10, 11, ... have languages in turn, titles and years by their places.
        assert (number - 10) % 3 == 0
        assert number - 10 >= 50
        assert video.title == f"shop 0.{number - 10}"


def test_pages_by_offset_are_parts_of_one_answer(recommend: Callable[..., Any]) -> None:
    whole = recommend(watched=["vid_12"], limit=30)
    parts = [recommend(watched=["vid_12"], limit=10, offset=offset) for offset in (0, 10, 20)]
    assert [v.id for part in parts for v in part.videos] == [v.id for v in whole.videos]
    assert [v.title for part in parts for v in part.videos] == [v.title for v in whole.videos]


def test_the_default_holds_where_the_caller_sends_nothing(recommend: Callable[..., Any]) -> None:
    assert len(recommend().videos) == 20


@pytest.mark.parametrize(
    ("request_", "code", "told"),
    [
        ({"limit": -1}, grpc.StatusCode.INVALID_ARGUMENT, "limit: must be 1 to 10000, got -1"),
        ({"watched": ["12"]}, grpc.StatusCode.INVALID_ARGUMENT, "watched[0]: must be 'vid_' and an integer"),
        ({"offset": -1}, grpc.StatusCode.INVALID_ARGUMENT, "offset: must be at least 0, got -1"),
        ({"page": "nowhere"}, grpc.StatusCode.NOT_FOUND, "nowhere"),
        (
            {"watched": ["vid_1"] * 10_001},
            grpc.StatusCode.INVALID_ARGUMENT,
            "watched: has 10001",
        ),
    ],
)
def test_a_bad_request_is_told_in_the_callers_words(
    recommend: Callable[..., Any], request_: dict[str, Any], code: grpc.StatusCode, told: str
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        recommend(**request_)
    assert error.value.code() is code
    assert told in error.value.details()


def test_bytes_that_are_no_request_are_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(METHOD)(b"\xff\xff", timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "request: the bytes are not a acme.recs.v1.RecommendRequest"


def test_reflection_shows_the_protocol_with_its_own_descriptors(channel: grpc.Channel) -> None:
    from grpc_reflection.v1alpha import reflection_pb2 as reflection

    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString,
    )
    requests = [
        reflection.ServerReflectionRequest(list_services=""),
        reflection.ServerReflectionRequest(file_containing_symbol="acme.recs.v1.Recommender"),
    ]
    listed, file = ask(iter(requests), timeout=20)
    names = [service.name for service in listed.list_services_response.service]
    assert "acme.recs.v1.Recommender" in names
    assert "mesh.v1.OrchestratorService" in names
    (content,) = file.file_descriptor_response.file_descriptor_proto
    held = descriptor_pb2.FileDescriptorProto.FromString(content)
    assert [method.name for method in held.service[0].method] == ["Recommend"]
