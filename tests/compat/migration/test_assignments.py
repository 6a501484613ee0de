"""The assignment log: what calls leave in it, what it costs when it cannot be written, and the join on its page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from meshfold.compat.key import KeyedHash
from meshfold.compat.migration import assignments as module
from meshfold.compat.migration.assignment_keys import AssignmentKeys
from meshfold.compat.migration.assignment_rows import SCHEMA, AssignmentRows, batch_of
from meshfold.compat.migration.assignments import AssignmentLog
from meshfold.compat.migration.bounded_queue import QUEUE_BYTES
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.methods import METHODS
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.model.errors import InvalidConfig
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.assignments import AssignmentsConfig
from meshfold.service.front import Answered, Outcome, Reply, Side
from meshfold.service.server import Server
from tests.compat.hydration.conftest import counted
from tests.compat.migration.conftest import ToldMesh, ask, request
from tests.waiting import wait_until

PAGE = Path(__file__).resolve().parents[3] / "docs" / "outcomes.md"
KEY = b"k" * 32
KEYS = AssignmentKeys(KeyedHash(KEY))
Start = Callable[..., Server]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Of a server that logs into tmp_path / "assignments"."""
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    return {"on": True, "folder": str(tmp_path / "assignments"), "key_file": str(key)}


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ds.dataset(folder, format="parquet").to_table().to_pylist()
    return sorted(found, key=lambda row: (row["unix_ms"], row["request_id"]))


def test_every_call_leaves_its_side_and_version_and_no_id(
    start: Start, store: Path, mesh: ToldMesh, tmp_path: Path, settings: dict[str, Any]
) -> None:
    server = start(store, {"assignments": AssignmentsConfig(**settings)})
    client = MigrationClient(server.admin_address)
    sides: dict[tuple[int, float], str] = {}
    with grpc.insecure_channel(server.address) as channel:
        for percent in (40.0, 90.0):
            client.set("shop", "canary", percent, "a test", "")
            for user_id in range(1, 31):
                got = ask(channel, request(user_id, request_id=f"r{user_id} at {percent:g}"))
                sides[user_id, percent] = got.side
        client.set("shop", "serve", 0, "a test", "")
        ask(
            channel,
            request(filter={"match": {"field": "no such field"}}),
            x_code="NOT_FOUND",
            x_details_bin=b"",
        )
        ask(channel, by_key("ann"))
    client.close()
    version = server.runners["shop"].version
    assert counted(server, "meshfold_assignments_dropped") == 0
    server.stop()
    found = rows(tmp_path / "assignments")
    assert counted(server, "meshfold_assignments") == len(found) == 62
    for percent in (40.0, 90.0):
        for user_id in range(1, 31):
            (row,) = (row for row in found if row["request_id"] == KEYS.request(f"r{user_id} at {percent:g}"))
            side = sides[user_id, percent]
            assert row["user_key"] == KEYS.user(user_id)
            assert (row["surface"], row["side"], row["code"], row["fallback"]) == ("shop", side, "OK", "")
            assert (row["mode"], row["canary_percent"]) == ("canary", percent)
            assert row["version"] == (version if side == "model" else "")
            assert 1_700_000_000_000 < row["unix_ms"] < 4_000_000_000_000
    failed, named = found[-2:]
    assert (failed["side"], failed["fallback"], failed["code"]) == ("mesh", "INVALID_ARGUMENT", "NOT_FOUND")
    assert (failed["user_key"], failed["version"], failed["mode"], failed["canary_percent"]) == (
        "",
        "",
        "serve",
        None,
    )
    assert named["user_key"] == KEYS.user("ann")
    switched = {user for user in range(1, 31) if sides[user, 40.0] != sides[user, 90.0]}
    assert switched
    both = {row["user_key"] for row in found if row["side"] == "mesh"} & {
        row["user_key"] for row in found if row["side"] == "model"
    }
    assert both == {KEYS.user(user) for user in switched}
    assert not {"ann", "r1 at 40", "1"} & {str(value) for row in found for value in row.values()}


def by_key(user_key: str) -> bytes:
    message: bytes = pb.RetrieveRequest(
        surface="shop", max_results=5, user={"user_key": user_key}
    ).SerializeToString()
    return message


def told(number: int, size: int = 10, mode: str = "serve") -> Answered:
    reply = Reply(b"\x08" + b"\x01" * size)
    outcome = Outcome(Side.MODEL, reply, grpc.StatusCode.OK, 0.1)
    return Answered(number, "shop", mode, request(number), outcome, "", 0.1)


def test_what_finds_no_room_is_dropped_and_counted(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AssignmentLog(AssignmentsConfig(**settings), METHODS)
    log.answered(told(1, size=QUEUE_BYTES))
    assert (log.dropped, len(log.queue)) == (1, 0)
    for number in range(module._QUEUE + 5):
        log.answered(told(number))
    assert (log.dropped, len(log.queue)) == (6, module._QUEUE)
    log.start()
    wait_until(lambda: len(log.queue) == 0)
    log.stop(10)
    assert (log.written, log.dropped) == (module._QUEUE, 6)
    assert len(rows(Path(settings["folder"]))) == module._QUEUE


def test_a_folder_that_cannot_be_written_costs_rows_alone(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "assignments").write_text("in the way")
    log = AssignmentLog(AssignmentsConfig(**settings), METHODS, file_s=0.01)
    log.start()
    log.answered(told(1))
    wait_until(lambda: log.dropped == 1)
    assert "1 assignments could not be written to" in caplog.text
    (tmp_path / "assignments").unlink()
    # Nothing is tried for a moment after a failure.

    def is_written() -> bool:
        log.answered(told(2))
        return log.written > 0

    wait_until(is_written)
    log.stop(10)
    assert {row["user_key"] for row in rows(tmp_path / "assignments")} == {KEYS.user(2)}


def test_files_are_written_in_time_and_the_oldest_go(settings: dict[str, Any]) -> None:
    log = AssignmentLog(AssignmentsConfig(**settings, bytes=1 << 20), METHODS, file_s=0.01)
    log.start()
    folder = Path(settings["folder"])
    folder.mkdir()
    (folder / "assignments-1-old.parquet").write_bytes(b"\0" * (1 << 20))
    (folder / "notes.txt").write_text("somebody else's")
    log.answered(told(1))
    wait_until(lambda: log.written == 1)
    log.stop(10)
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 2
    assert left[1] == "notes.txt"
    assert "assignments-1-old.parquet" not in left


@pytest.mark.parametrize("percent", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("kind", Kind)
def test_every_mode_is_told(kind: Kind, percent: float) -> None:
    mode = Mode(kind, percent if kind is Kind.CANARY else 0.0)
    row = dict(zip(SCHEMA.names, AssignmentRows(KEYS, METHODS).row(5, told(1, mode=str(mode))), strict=True))
    assert row["mode"] == kind.value
    assert row["canary_percent"] == (percent if kind is Kind.CANARY else None)


def test_ids_that_are_odd_have_keys() -> None:
    rows = AssignmentRows(KEYS, METHODS)
    answered = told(-1)
    assert rows.row(5, answered)[0] == KEYS.user(-1)
    garbage = Answered(1, "other", "mesh", b"\xff\xff", answered.outcome, "", 0.1)
    assert rows.row(5, garbage)[:2] == ("", "")
    batch = batch_of([rows.row(5, answered), rows.row(5, garbage)])
    assert batch.schema == SCHEMA
    assert len({KEYS.user(7), KEYS.user("7"), KEYS.request("7")}) == 3


def test_it_needs_a_key_that_stays(settings: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidConfig, match="assignments.key_file must name a file.*meshfold shadow key --out"
    ):
        AssignmentLog(AssignmentsConfig(on=True), METHODS)
    with pytest.raises(InvalidConfig, match="assignments.bytes must be at least"):
        AssignmentsConfig(bytes=5)
    with pytest.raises(InvalidConfig, match="assignments.age_s must be above 0"):
        AssignmentsConfig(age_s=0)
    with pytest.raises(InvalidConfig, match="key"):
        AssignmentLog(AssignmentsConfig(**{**settings, "key_file": "nowhere"}), METHODS)


def blocks(language: str) -> Sequence[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Path:
    """As the page has it: users 1 to 4 met the mesh, 5 to 8 the model, 9 both; user 10 fell back from the model."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "assignments"
    folder.mkdir()
    sides = [(u, "mesh", "", 10) for u in (1, 2, 3, 4)] + [(u, "model", "", 10) for u in (5, 6, 7, 8)]
    sides += [(9, "mesh", "", 10), (9, "model", "", 20), (10, "mesh", "UNAVAILABLE", 10), (0, "mesh", "", 10)]
    made = [
        (KEYS.user(u), KEYS.request(f"r{u}"), "feed", side, "v", ms, "canary", 50.0, "OK", fallback)
        for u, side, fallback, ms in sides
    ]
    pq.write_table(pa.Table.from_batches([batch_of(made)]), folder / "assignments-1-a.parquet")
    events = {"user_id": [1, 1, 2, 5, 5, 9, 10], "unix_ms": [5, 15, 20, 11, 12, 30, 30]}
    minutes = [100.0, 2.0, 6.0, 3.0, 4.0, 8.0, 8.0]
    pq.write_table(pa.table({**events, "minutes": minutes}), tmp_path / "events.parquet")
    exec(blocks("python")[0], {})
    return tmp_path


# side, users, minutes of a user: what comes before the first answer does not count.
EXPECTED = [("both", 1, 8.0), ("mesh", 4, 2.0), ("model", 5, 3.0)]


def test_the_join_of_the_page_with_pyarrow(joined: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    found = sorted(names["outcomes"].to_pylist(), key=lambda row: row["side"])
    assert [(r["side"], r["minutes_sum_count"], r["minutes_sum_mean"]) for r in found] == EXPECTED
    assert "both" in capsys.readouterr().out


def test_the_join_of_the_page_in_duckdb(joined: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    outcomes, switches = blocks("sql")
    with duckdb.connect() as connection:
        found = connection.execute(outcomes).fetchall()
        assert [row[1:4] for row in found] == EXPECTED
        assert [row[1:5] for row in connection.execute(switches).fetchall()] == [
            (KEYS.user(9), 20, "mesh", "model")
        ]
