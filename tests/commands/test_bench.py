from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.proto import serialize_length_prefixed

from meshfold.commands.__main__ import main
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.server import Server

QUICK = ("--window", "0.2", "--from-rate", "20", "--to-rate", "30")


def test_a_servers_rate_is_found_and_drawn(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, plot = tmp_path / "requests.bin", tmp_path / "rates.svg"
    with requests.open("wb") as file:
        for number in range(3):
            serialize_length_prefixed(pb.RetrieveRequest(surface="shop", max_results=1 + number), file)
    words = ["bench", "--target", served.address, "--p99", "30s", "--requests", str(requests), *QUICK]
    assert main([*words, "--json", "--plot", str(plot)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rate_hz"], told["reached_most"], told["p99_ms"]) == (30.0, True, 30_000.0)
    assert all(window["failed"] == 0 and window["calls"] > 0 for window in told["windows"])
    assert plot.read_text().startswith("<?xml")


def test_without_requests_it_says_what_is_sent(served: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--target", served.address, "--p99", "30s", "--surface", "shop", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "requests had no history" in out
    assert "at least 30.0 requests a second with 99 % within 30000 ms" in out


def test_a_method_that_is_not_there_is_named(served: Server, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "bench",
        "--target",
        served.address,
        "--p99",
        "30s",
        "--method",
        "/mesh.v1.OrchestratorService/Nothing",
    ]
    assert main([*words, *QUICK]) == 1
    assert "does not answer /mesh.v1.OrchestratorService/Nothing: UNIMPLEMENTED" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--p99", "100"], "--p99 must be a time of up to 60s, such as 100ms or 1.5s; got '100'"),
        (["--p99", "90s"], "--p99 must be a time"),
        (["--target", "nowhere"], "--target must be host:port"),
        (["--method", "Retrieve"], "--method must be /package.Service/Method"),
        (["--from-rate", "9", "--to-rate", "3"], "--from-rate must be above 0 and below --to-rate"),
        (["--window", "0"], "--window must be 0.1 to 600 seconds"),
        (["--results", "0"], "--results must be 1 to"),
        (["--plot", "rates.pdf"], "--plot must end in .png or .svg"),
        (["--plot", "nowhere/rates.svg"], "there is no folder nowhere"),
        (["--requests", "nowhere.bin"], "nowhere.bin cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    usual = ["bench", "--target", "127.0.0.1:1", "--p99", "100ms"]
    assert main([*usual, *words]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "holds no requests"),
        (b"\x05ab", "message 1: ends in the middle"),
        (b"\x02ab\xff\xff", "message 2: ends in the middle"),
        (b"\xff" * 9, "message 1: ends in the middle"),
    ],
)
def test_a_broken_file_of_requests_is_named(
    data: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "requests.bin"
    path.write_bytes(data)
    assert main(["bench", "--target", "127.0.0.1:1", "--p99", "100ms", "--requests", str(path)]) == 1
    assert told in capsys.readouterr().err
