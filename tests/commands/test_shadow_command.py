from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.key import keyed_hash
from meshfold.compat.mesh_v1.retrieve import METHOD
from meshfold.compat.recording.record_files import read_records
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.compat.shadow.difference_files import read_differences
from meshfold.compat.shadow.pair_files import PAIRS, read_pairs
from meshfold.compat.shadow.report.as_json import from_json
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.commands.shadow_commands import compared, shadow
from tests.compat.migration.conftest import mesh, seen
from tests.compat.migration.conftest import start as start_front
from tests.compat.shadow.recordings import answer, record, write_records
from tests.compat.shadow.shop_requests import request
from tests.waiting import wait_until

__all__ = ["mesh", "seen", "start_front"]

# Somebody else's programs: nothing of ours is imported.
WITH_PYARROW = """
import random
import sys

import pyarrow
import pyarrow.parquet

random.seed(0)
rows = []
for number in range(60):
    old = random.sample(range(1000), 20)
    new = old[:18] + [5000, 5001]
    rows.append(
        {
            "request_id": f"q-{number}",
            "user_key": f"u-{number % 40}",
            "mesh_item_ids": old,
            "mesh_scores": [1 - i / 20 for i in range(20)],
            "mesh_latency_ms": random.uniform(5, 50),
            "model_item_ids": new,
        }
    )
pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sys.argv[1])
"""
WITH_JSON = """
import json
import sys

with open(sys.argv[1], "w") as file:
    for number in range(60):
        for side, last in (("mesh", "c"), ("model", "d")):
            row = {
                "request_id": number,
                "side": side,
                "user_key": number % 40,
                "item_ids": ["a", "b", f"{last}{number}"],
                "latency_ms": 3.5 if side == "mesh" else None,
            }
            print(json.dumps(row), file=file)
"""


def test_a_file_of_somebody_elses_program_is_compared_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, program, overlap in (("a.parquet", WITH_PYARROW, 0.9), ("a.jsonl", WITH_JSON, 2 / 3)):
        subprocess.run([sys.executable, "-I", "-c", program, tmp_path / name], check=True)
        out = tmp_path / f"{name} compared"
        comparison = compared(capsys, tmp_path / name, "--out", out)
        (surface,) = comparison.surfaces
        assert (surface.pairs, surface.users) == (60, 40)
        (figure,) = [one for one in surface.figures if one.name == "overlap@100"]
        assert figure.difference.value == pytest.approx(overlap)
        assert comparison.sources == (str(tmp_path / name),)
        assert len(list(read_pairs(out))) == 60
        assert shadow("report", out) == 0
        assert "60 pairs of 40 users" in capsys.readouterr().out
        assert shadow("report", out / PAIRS, "--json") == 0
        again = from_json(json.loads(capsys.readouterr().out))
        assert again.surfaces[0].figures == surface.figures
    assert shadow("report", out, "--html", tmp_path / "report.html") == 0
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_two_logs_are_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, last in (("mesh", 3), ("model", 4)):
        rows = ({"request_id": f"{i}", "item_ids": [1, 2, last]} for i in range(50))
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--mesh", tmp_path / "mesh", "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert shadow("compare", *words) == 0
    assert "50 pairs" in capsys.readouterr().out


@pytest.fixture
def recording(tmp_path: Path, store: Path) -> Path:
    """40 calls; the mesh answers as the store's snapshot does, but for its first item, the model as the snapshot."""
    answers, records = SnapshotAnswers(store), []
    for number in range(40):
        request = pb.RetrieveRequest(request_id=f"r{number}", surface="shop", max_results=10)
        request.user.user_id = number % 10 + 1
        request.user.history[:] = [10 + number, 90]
        found = [int(item) for item in answers.answer(request.SerializeToString()).item_ids]
        records.append(record(number, "mesh", answer(*found[1:], 7), request.SerializeToString()))
        records.append(record(number, "model", answer(*found), shadow=True))
    return write_records(tmp_path / "recorded", *records)


def test_a_recording_is_compared_beside_a_store(
    recording: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    comparison = compared(capsys, recording, "--store", store, "--out", out, "--attribute", 30)
    (surface,) = comparison.surfaces
    assert (surface.surface, surface.pairs, surface.users, surface.attributed_pairs) == ("shop", 40, 10, 30)
    assert sum(surface.causes.values()) == 60
    assert {one.side: one.of for one in surface.rates if one.name == "violations"}["model"] == 400
    assert any(item.title for item in surface.examples[0].items.values())
    differences = read_differences(out / "differences.parquet")
    assert sum(map(len, differences.values())) == 60
    assert differences.keys() <= {pair.request_id for pair in read_pairs(out)}
    # What is written and read again is the same.
    assert shadow("report", out, "--json") == 0
    assert from_json(json.loads(capsys.readouterr().out)) == comparison


def test_causes_stand_with_the_pair_whose_request_id_no_other_has(
    recording: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A caller that asks again with the id of its first try."""
    request = pb.RetrieveRequest(request_id="r0", surface="shop", max_results=10).SerializeToString()
    records = [
        record(99, "mesh", answer(8, 7), request),
        record(99, "model", answer(7, 9), shadow=True),
    ]
    write_records(recording, *records)
    comparison = compared(capsys, recording, "--store", store, "--out", tmp_path / "out")
    (surface,) = comparison.surfaces
    assert (surface.pairs, surface.attributed_pairs) == (41, 39)
    assert comparison.counted["pairs without causes, as others have their request id"] == 1


def test_a_server_records_what_is_compared(
    store: Path,
    served: Server,
    start_front: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mesh is another server of the same store: its answers are the model's."""
    folder, key = tmp_path / "recorded", tmp_path / "key"
    assert shadow("key", "--out", key) == 0
    recording = RecordingConfig(on=True, folder=str(folder), key_file=str(key))
    front = start_front(store, {"mesh": served.address, "recording": recording})
    assert (
        main(["mode", "shop", "mirror", "--who", "me", "--why", "test", "--address", front.admin_address])
        == 0
    )
    with grpc.insecure_channel(front.address) as channel:
        for number in range(20):
            channel.unary_unary(METHOD)(request(number).SerializeToString())
    wait_until(lambda: sum(one.shadow for one in read_records(folder)) == 20)
    front.stop()
    capsys.readouterr()
    words = (folder, "--store", store, "--key", key, "--out", tmp_path / "out")
    (surface,) = compared(capsys, *words).surfaces
    assert (surface.surface, surface.pairs, surface.users) == ("shop", 20, 5)
    assert [one.difference.value for one in surface.figures if one.name == "overlap@10"] == [1.0]
    assert all(rate.count == 0 for rate in surface.rates)
    keyed = keyed_hash(str(key))
    pairs = list(read_pairs(tmp_path / "out"))
    assert {pair.request_id for pair in pairs} == {keyed.request_id(f"request-{n}") for n in range(20)}
    assert {pair.user_key for pair in pairs} == {f"{keyed.user_id(n):016x}" for n in range(1, 6)}


def test_an_audit_asks_the_store_in_place_of_the_recorded_model(
    recording: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (recording, "--store", store, "--out", tmp_path / "out")
    (surface,) = compared(capsys, *words, "--audit").surfaces
    assert surface.pairs == 40
    assert {one.side: one.answers for one in surface.latencies}["mesh"] == 40
    pairs = list(read_pairs(tmp_path / "out"))
    assert all(pair.model is not None and len(pair.model.version) == 64 for pair in pairs)


def test_hashes_are_those_of_the_key(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shadow("key", "--out", tmp_path / "key") == 0
    assert "give it to every server as recording.key_file" in capsys.readouterr().out
    for name in ("1", "2"):
        compared(capsys, recording, "--key", tmp_path / "key", "--out", tmp_path / name)
    users = [{pair.user_key for pair in read_pairs(tmp_path / name)} for name in ("1", "2")]
    assert users[0] == users[1]
    assert len(users[0]) == 10
    compared(capsys, recording, "--out", tmp_path / "3")
    assert not users[0] & {pair.user_key for pair in read_pairs(tmp_path / "3")}


def test_requests_are_kept_where_that_is_asked_for(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (recording, "--keep-requests", "--omit", "slices.mode, user_key", "--out", tmp_path / "out")
    compared(capsys, *words)
    for pair in read_pairs(tmp_path / "out"):
        assert pb.RetrieveRequest.FromString(pair.request).user.history
        assert (pair.is_redacted, pair.user_key, "mode" in pair.slices) == (False, "", False)


def test_what_is_skipped_is_told_and_the_status_says_so(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = recording.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert shadow("compare", recording, "--out", tmp_path / "out") == 3
    out = capsys.readouterr().out
    assert "files that end in the middle 1" in out
    assert f"files that end in the middle: 1, first at {path}, byte " in out
    assert (
        compared(capsys, recording, "--out", tmp_path / "none", "--surface", "shop", status=3).counted[
            "files that end in the middle"
        ]
        == 1
    )
