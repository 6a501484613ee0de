"""The ten minutes of docs/own-protocol.md, block by block."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from meshfold.commands.__main__ import main
from meshfold.compat.recording.record_files import read_records
from tests.compat.mapped.conftest import HERE, Serve
from tests.waiting import wait_until

recs: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "own-protocol.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
METHOD = "/acme.recs.v1.Recommender/Recommend"


def blocks(kind: str) -> list[str]:
    return [text for each, text in BLOCKS if each == kind]


@pytest.fixture
def old_service() -> Iterator[str]:
    """The address of the service of today, with answers of its own."""

    def recommend(request: Any, _: Any) -> Any:
        videos = [{"id": f"vid_{item}", "score": 1 - item / 100, "title": "a title"} for item in (12, 15, 18)]
        return recs.RecommendResponse(videos=videos[: request.limit], model="7")

    handler = grpc.unary_unary_rpc_method_handler(
        recommend, recs.RecommendRequest.FromString, recs.RecommendResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    service = METHOD.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Recommend": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def steps(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The page's command lines, in a folder that has its files."""
    monkeypatch.chdir(tmp_path)
    (proto,) = blocks("proto")
    assert (HERE / "protos" / "acme_recs.proto").read_text().endswith(proto)
    (mapping,), (request,) = blocks("toml"), blocks("json")
    Path("acme.toml").write_text(mapping)
    Path("request.json").write_text(request)
    Path("store").symlink_to(store)
    lines = [shlex.split(line) for text in blocks("sh") for line in text.splitlines()]
    # Descriptors as protoc made them once; not everybody has it.
    assert lines[0][:2] == ["protoc", "--include_imports"]
    shutil.copy(HERE / "protos" / "acme.binpb", lines[0][2].partition("=")[2])
    assert {line[0] for line in lines[1:]} == {"meshfold"}
    return [line[1:] for line in lines[1:]]


def asked(channel: grpc.Channel) -> tuple[Any, str]:
    """(the answer to the page's request, who gave it)."""
    (request,) = blocks("json")
    message = json_format.Parse(request, recs.RecommendRequest())
    answer, call = channel.unary_unary(METHOD).with_call(message.SerializeToString(), timeout=20)
    side = dict(call.trailing_metadata()).get("meshfold-answered-by", "")
    return recs.RecommendResponse.FromString(answer), side


def test_the_page_leads_from_a_protocol_to_answers(
    steps: list[list[str]], serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    at = next(place for place, words in enumerate(steps) if words[0] == "serve")
    for words in steps[:at]:
        assert main(words) == 0
    told = capsys.readouterr().out
    assert "1 requests, 0 refused, 0 fields ignored" in told
    assert 'filter: language == "de"' in told
    assert "scores: " in told
    assert Path("first.toml").read_text().startswith('[protocol]\ndescriptors = "acme.binpb"')
    answer, _ = asked(serve(*steps[at][1:]))
    assert len(answer.videos) == 3
    assert all(video.title for video in answer.videos)


def test_the_page_leads_on_to_a_comparison_with_the_service_of_today(
    steps: list[list[str]], serve: Serve, old_service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at = [place for place, words in enumerate(steps) if words[0] == "serve"][-1]
    serving = [old_service if word == "recs.example:9000" else word for word in steps[at][1:]]
    assert old_service in serving
    with socket.create_server(("127.0.0.1", 0)) as free:
        operators = f"127.0.0.1:{free.getsockname()[1]}"
    channel = serve(*serving, "--admin-address", operators)
    for words in steps[at + 1 :]:
        if words[0] == "record":
            # What callers ask meanwhile.
            for _ in range(3):
                answer, side = asked(channel)
                assert (answer.model, side) == ("7", "mesh")
            wait_until(lambda: len(list(read_records(Path(".meshfold/recorded")))) == 6)
        to_server = ["--address", operators] if words[0] in ("mode", "record") else []
        assert main([*words, *to_server]) == 0
    told = capsys.readouterr().out
    assert "3 requests, 0 refused, 0 fields ignored" in told
    (surface,) = json.loads(Path("compared/comparison.json").read_text())["comparison"]["surfaces"]
    assert (surface["surface"], surface["pairs"]) == ("shop", 3)
    assert Path("report.html").stat().st_size > 1000
