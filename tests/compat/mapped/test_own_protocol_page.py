"""The ten minutes of docs/own-protocol.md, block by block."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.commands.__main__ import main
from meshfold.compat.mapped.compile import load
from tests.compat.mapped.conftest import HERE, Serve

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "own-protocol.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
METHOD = "/acme.recs.v1.Recommender/Recommend"


def blocks(kind: str) -> list[str]:
    return [text for each, text in BLOCKS if each == kind]


def test_the_page_leads_from_a_protocol_to_answers(
    tmp_path: Path,
    store: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (proto,) = blocks("proto")
    assert (HERE / "protos" / "acme_recs.proto").read_text().endswith(proto)
    (mapping,), (request,) = blocks("toml"), blocks("json")
    Path("acme.toml").write_text(mapping)
    Path("request.json").write_text(request)
    lines = [shlex.split(line) for text in blocks("sh") for line in text.splitlines()]
    assert [line[0] for line in lines] == ["protoc", "meshfold", "meshfold", "meshfold", "meshfold"]
    # Descriptors as protoc made them once; not everybody has it.
    shutil.copy(HERE / "protos" / "acme.binpb", lines[0][2].partition("=")[2])
    for _, *words in lines[1:-1]:
        assert main(words) == 0
    told = capsys.readouterr().out
    assert "1 requests, 0 refused, 0 fields ignored" in told
    assert 'filter: language == "de"' in told
    assert Path("first.toml").read_text().startswith('[protocol]\ndescriptors = "acme.binpb"')
    load(Path("acme.toml"))

    assert lines[-1][:4] == ["meshfold", "serve", "--store", "store"]
    channel = serve("--store", str(store), "--mapping", str(tmp_path / lines[-1][-1]))
    (adapter,) = load(Path("acme.toml")).adapters
    kinds: Any = [
        GetMessageClass(each) for each in (adapter.descriptor.input_type, adapter.descriptor.output_type)
    ]
    from google.protobuf import json_format

    message = json_format.Parse(request, kinds[0]())
    try:
        answer = kinds[1].FromString(channel.unary_unary(METHOD)(message.SerializeToString(), timeout=20))
    except grpc.RpcError as error:
        pytest.fail(str(error))
    assert len(answer.videos) == 3
    assert all(video.title for video in answer.videos)
