"""A protocol of awkward choices, mapped without Python: every one of its fields says what it should."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as Packed

pb: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def get_feed(channel: grpc.Channel) -> Ask:
    call = channel.unary_unary(
        "/acme.legacy.Feed/GetFeed",
        request_serializer=pb.FeedRequest.SerializePartialToString,
        response_deserializer=pb.FeedResponse.FromString,
    )

    def ask(request: Any = None, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> Any:
        request = request or pb.FeedRequest()
        request.MergeFrom(pb.FeedRequest(**{"header": {"request_id": "r1"}, **fields}))
        return call.with_call(request, timeout=20, metadata=metadata)

    return ask


def numbers(answer: Any) -> list[int]:
    return [int(video.video_id.removeprefix("vid_")) for video in answer.videos]


def test_every_field_of_the_answer_is_filled(get_feed: Ask) -> None:
    viewer = {"id": "u", "watched": [{"video": "vid_12"}, {"video": "vid_40"}]}
    answer, call = get_feed(viewer=viewer, page_size=6)
    ids = numbers(answer)
    assert len(ids) == 6
    assert answer.request_id == "r1"
    assert answer.status.code == 200
    assert [video.rank for video in answer.videos] == list(range(6))
    values = answer.columns["value"].values
    assert [video.score.millis for video in answer.videos] == [round(1000 * value) for value in values]
    assert np.frombuffer(answer.tensor, "<f4").tolist() == list(values)
    assert [answer.scores[f"vid_{number}"] for number in ids] == list(values)
    likes = [video.score.by_task["like"] for video in answer.videos]
    assert likes == list(answer.columns["like"].values)
    markets = ("MARKET_GERMAN", "MARKET_ENGLISH", "MARKET_SPANISH")
    for number, video in zip(ids, answer.videos, strict=True):
        assert pb.Market.Name(video.market) == markets[(number - 10) % 3]
        assert video.title == f"shop 0.{number - 10}"
        assert list(video.years) == ([1900 + number - 10] if (number - 10) % 10 else [])
    debug = pb.Debug()
    assert answer.debug.Unpack(debug)
    trailing = dict(call.trailing_metadata())
    assert trailing["x-model-version"] == debug.model
    assert trailing["x-count"] == "6"
    assert answer.Extensions[pb.experiment] == "model"


def test_filters_come_as_pairs_an_extension_and_an_any(get_feed: Ask) -> None:
    answer, _ = get_feed(filter=["lang=de,en", "year>=1950", "year<1980", "year!=1960,1962"], page_size=100)
    years = [year for video in answer.videos for year in video.years]
    assert len(years) == len(answer.videos) > 10
    assert min(years) == 1951
    assert max(years) < 1980
    assert not {1962} & set(years)
    assert {video.market for video in answer.videos} == {pb.MARKET_GERMAN, pb.MARKET_ENGLISH}

    request = pb.FeedRequest(header={"request_id": "r2"}, page_size=50)
    request.Extensions[pb.year_from] = 2200
    context = Packed()
    context.Pack(pb.Device(markets=[pb.MARKET_SPANISH]))
    request.context.CopyFrom(context)
    answer, _ = get_feed(request)
    assert {video.market for video in answer.videos} == {pb.MARKET_SPANISH}
    assert min(year for video in answer.videos for year in video.years) >= 2200


def test_a_token_gives_the_next_page_without_repeating(get_feed: Ask) -> None:
    whole, _ = get_feed(page_size=60)
    seen: list[int] = []
    token = ""
    for _ in range(3):
        answer, _ = get_feed(page_size=20, page_token=token)
        seen += numbers(answer)
        token = answer.next_page_token
    assert seen == numbers(whole)
    last, _ = get_feed(filter=["year=1951,1952"], page_size=20)
    assert last.next_page_token == ""


def test_the_default_of_the_protocol_holds(get_feed: Ask) -> None:
    answer, _ = get_feed()
    assert len(answer.videos) == 20


def test_metadata_may_name_the_surface(get_feed: Ask) -> None:
    answer, _ = get_feed(metadata=(("x-page", "shop"),))
    assert answer.videos
    with pytest.raises(grpc.RpcError) as error:
        get_feed(metadata=(("x-page", "elsewhere"),))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_no_results_are_the_status_that_the_mapping_says(get_feed: Ask) -> None:
    with pytest.raises(grpc.RpcError) as error:
        get_feed(filter=["year=1"])
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert error.value.details() == "no item is eligible for this request"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"filter": ["lang"]}, "filter[0]: must be a field, one of"),
        ({"filter": ["lang=de", "color=red"]}, "filter[1]: no field 'color' to filter by; known: lang, year"),
        ({"filter": ["year=soon"]}, "filter[0]: year takes whole numbers"),
        ({"page_token": "me"}, "page_token: is no token that this server gave; start again without it"),
        ({"hidden": ["vid_1", "vid_x"]}, "hidden[1]: must be 'vid_' and an integer"),
        (
            {"viewer": {"id": "u", "market": 3}},
            "viewer.market: MARKET_SPANISH of acme.legacy.Market is not served",
        ),
        ({"inputs": [{"name": "a"}]}, "inputs[0]: none of text, numbers, reals is set; set one"),
        ({"header": {}}, "required fields of acme.legacy.FeedRequest are missing: header.request_id"),
        (
            {"context": Packed(type_url="x/acme.legacy.Device", value=b"\xff")},
            "request: holds an Any whose bytes are not the acme.legacy.Device that it names",
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_a_bad_request_is_refused_by_name(get_feed: Ask, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        get_feed(**fields)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in error.value.details()


def test_a_call_about_the_service_has_its_fixed_answer(channel: grpc.Channel) -> None:
    answer = pb.InfoResponse.FromString(channel.unary_unary("/acme.legacy.Feed/GetInfo")(b"", timeout=20))
    assert answer == pb.InfoResponse(name="acme feed", markets=[pb.MARKET_GERMAN, pb.MARKET_ENGLISH])
