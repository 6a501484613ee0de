from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.proto import serialize_length_prefixed

from meshfold.commands.__main__ import main
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.shadow.answers import answer_of
from meshfold.compat.shadow.pair_files import PAIRS, read_pairs
from meshfold.compat.shadow.pairs import Pair
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import mesh, seen
from tests.compat.migration.conftest import start as start_front
from tests.compat.shadow.shop_requests import request

__all__ = ["mesh", "seen", "start_front"]

FAST = ("--rate", "500")


def write_requests(path: Path, count: int, **fields: Any) -> list[pb.RetrieveRequest]:
    made = [request(number, **fields) for number in range(count)]
    with path.open("wb") as file:
        for each in made:
            serialize_length_prefixed(each, file)
    return made


def pairs_in(folder: Path) -> list[Pair]:
    return list(read_pairs(folder))


def test_two_servers_are_asked_and_their_pairs_kept(
    store: Path,
    served: Server,
    start: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    requests = tmp_path / "requests.bin"
    made = write_requests(requests, 20)
    other = start(store).address
    words = ["replay", "--requests", str(requests), "--against", served.address, "--against", other, *FAST]
    assert main([*words, "--out", str(tmp_path / "out"), "--noise", "1", "--noise-delay", "0"]) == 0
    out = capsys.readouterr().out
    assert f"20 pairs in {tmp_path / 'out'}, of 20 the mesh was asked again" in out
    assert (
        len([line for line in out.splitlines() if line.startswith(("mesh", "model")) and " 20 " in line]) == 2
    )
    pairs = pairs_in(tmp_path / "out")
    assert len({pair.request_id for pair in pairs}) == len(pairs) == 20
    assert len({pair.user_key for pair in pairs}) == 5
    for pair in pairs:
        assert pair.mesh
        assert pair.model
        assert pair.again
        assert len(pair.mesh.item_ids) == pair.max_results == 10
        assert pair.mesh.item_ids == pair.model.item_ids == pair.again.item_ids
        assert pair.filter in ("", 'language == "de"')
        # Histories are personal.
        assert pair.is_redacted
        assert not pb.RetrieveRequest.FromString(pair.request).user.history
    kept = tmp_path / "kept"
    assert main([*words, "--out", str(kept), "--keep-requests"]) == 0
    assert {pair.request for pair in pairs_in(kept)} == {each.SerializeToString() for each in made}
    # Whole requests can be asked again.
    assert main(["replay", "--requests", str(kept), "--against", other, *FAST, "--json"]) == 0
    assert main(["replay", "--requests", str(tmp_path / "out"), "--against", other, *FAST]) == 1
    assert "no request can be asked again" in capsys.readouterr().err


def test_a_recording_is_replayed_against_one_side(
    store: Path,
    served: Server,
    start_front: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "recorded"
    recording = RecordingConfig(on=True, folder=str(folder))
    front = start_front(tmp_path / "none", {"mesh": served.address, "recording": recording})
    with grpc.insecure_channel(front.address) as channel:
        answers = [channel.unary_unary(METHOD)(request(number).SerializeToString()) for number in range(6)]
    front.stop()
    words = ["replay", "--requests", str(folder), "--against", f"model={served.address}", *FAST]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sides"].keys() == {"model"}
    assert told["sides"]["model"]["statuses"] == {"OK": 6}
    assert (told["requests"], told["pairs"], told["asked_again"]) == (6, 6, 0)
    pairs = pairs_in(tmp_path / "out")
    assert {pair.mesh.item_ids for pair in pairs if pair.mesh} == {answer_of(a).item_ids for a in answers}
    assert all(pair.mesh and pair.model and pair.mesh.item_ids == pair.model.item_ids for pair in pairs)


def test_an_interrupt_keeps_what_is_there(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = tmp_path / "requests.bin"
    write_requests(requests, 400)

    def interrupt() -> None:
        # A second and a half after the replay took the signal over, whatever its imports took.
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            time.sleep(0.01)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    words = ["replay", "--requests", str(requests), "--against", served.address, "--rate", "100"]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 130
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["pairs"] == told["requests"] < 400
    assert len(pairs_in(tmp_path / "out")) == told["pairs"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_failures_are_counted_by_status(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = tmp_path / "requests.bin"
    write_requests(requests, 3, surface="home")
    assert main(["replay", "--requests", str(requests), "--against", served.address, *FAST]) == 0
    out = capsys.readouterr().out
    assert "mesh failed: 3 NOT_FOUND" in out
    assert "\n3 pairs" in out


def test_what_does_not_fit_is_one_line(
    served: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, empty, cut, other = (tmp_path / name for name in ("r.bin", "empty.bin", "cut.bin", "other.bin"))
    write_requests(requests, 3)
    empty.write_bytes(b"")
    cut.write_bytes(requests.read_bytes()[:-4])
    other.write_bytes(b"\x05hello" * 3)
    full = tmp_path / "full"
    (full / PAIRS).mkdir(parents=True)
    for words, message in (
        (["--requests", str(empty)], f"{empty} holds no requests; expected length-prefixed"),
        (["--requests", str(other)], f"{other} holds no requests; expected length-prefixed"),
        (["--requests", str(tmp_path / "none.bin")], "none.bin cannot be read: No such file"),
        (["--requests", str(tmp_path / "none.parquet")], "none.parquet is not there"),
        (["--requests", str(requests), "--out", str(full)], f"{full} is not empty"),
        (["--requests", str(requests), "--out", str(requests)], f"{requests} cannot be written"),
        (["--requests", str(requests), "--noise", "2"], "noise must be from 0 to 1"),
        (["--requests", str(requests), "--key", "none.key"], "none.key"),
    ):
        assert main(["replay", "--against", served.address, *FAST, *words]) == 1
        err = capsys.readouterr().err
        assert err.startswith("meshfold: ")
        assert message in err
        assert err.count("\n") == 1
    assert main(["replay", "--requests", str(cut), "--against", served.address, *FAST]) == 3
    assert "messages that are no requests: 1, first at" in capsys.readouterr().out
    one = ["replay", "--requests", str(requests), *FAST, "--against", f"mesh={served.address}"]
    for words in (["--against", "mesh=a:1"], ["--against", "b:1", "--against", "c:1"]):
        with pytest.raises(SystemExit):
            main([*one, *words])
        assert "one server for each of mesh and model" in capsys.readouterr().err
    assert main([*one[:-1], "127.0.0.1:1", "--timeout", "0.2"]) == 1
    assert "no server answers at 127.0.0.1:1 within 0.2 s" in capsys.readouterr().err
