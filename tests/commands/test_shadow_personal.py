"""What `meshfold shadow` writes: nothing that is personal."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from meshfold.compat.shadow.difference_files import read_differences
from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.commands.shadow_commands import shadow
from tests.compat.shadow.recordings import answer, record, write_records
from tests.waiting import wait_until

PERSONAL_ID, PERSONAL_ITEM = 987654321987, 123123123123
PERSONAL = (
    b"session-of-mister-x",
    b"user-key-of-x",
    b"feature-of-x",
    b"item-key-x-met",
    str(PERSONAL_ID).encode(),
    str(PERSONAL_ITEM).encode(),
    f"{PERSONAL_ID:x}".encode(),
    PERSONAL_ID.to_bytes(8, "little"),
    PERSONAL_ITEM.to_bytes(8, "little"),
)


def personal_request(number: int, strings: bool) -> pb.RetrieveRequest:
    made = pb.RetrieveRequest(request_id=f"session-of-mister-x-{number}", surface="shop", max_results=5)
    made.user.features["device"].strings.values.append("feature-of-x")
    if strings:
        made.user.user_key = "user-key-of-x"
        made.user.history_keys.append("item-key-x-met")
        made.excluded_item_keys.append("item-key-x-met")
    else:
        made.user.user_id = PERSONAL_ID
        made.user.history[:] = [10 + number, PERSONAL_ITEM]
        made.excluded_item_ids.append(PERSONAL_ITEM)
    return made


def varint(number: int) -> bytes:
    """As protobuf writes it."""
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def test_nothing_personal_is_in_what_is_written(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even of a recording that keeps everything."""
    records = []
    for number in range(30):
        message = personal_request(number, strings=number % 3 == 0).SerializeToString()
        records.append(record(number, "mesh", answer(10, 11, 12 + number), message))
        records.append(record(number, "model", answer(10, 11, 13 + number), shadow=True))
    recording = write_records(tmp_path / "recorded", *records)
    out, report = tmp_path / "out", tmp_path / "report.html"
    assert shadow("compare", recording, "--store", store, "--out", out, "--features", "country") == 0
    assert shadow("report", out, "--html", report) == 0
    printed = capsys.readouterr().out.encode()
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == 3
    # Of Parquet also the bytes before they were compressed.
    rows = [repr(pair).encode() + pair.request for pair in read_pairs(out)]
    differences = repr(read_differences(out / "differences.parquet")).encode()
    contents = [printed, differences, *rows, *(path.read_bytes() for path in (*files, report))]
    recorded = b"".join(path.read_bytes() for path in recording.iterdir())
    assert all(planted in recorded for planted in (*PERSONAL[:4], varint(PERSONAL_ID), varint(PERSONAL_ITEM)))
    for planted in (*PERSONAL, varint(PERSONAL_ID), varint(PERSONAL_ITEM)):
        for content in contents:
            assert planted not in content
    assert all(pair.is_redacted and len(pair.request_id) == 32 for pair in read_pairs(out))
    assert "30 of 30 pairs are redacted" in json.dumps(json.loads((out / "comparison.json").read_text()))


def test_what_is_left_out_is_in_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        {
            "request_id": f"r{number}",
            "user_key": f"user-key-of-x-{number}",
            "mesh_item_ids": [1, 2],
            "model_item_ids": [1, 2 + number % 2],
            "filter": 'town == "filter-of-x"',
            "slices": {"town": f"town-of-x-{number % 2}", "size": f"size-{number % 2}"},
        }
        for number in range(80)
    )
    given, out = tmp_path / "a.jsonl", tmp_path / "out"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert shadow("compare", given, "--omit", "filter,user_key,slices.town", "--out", out) == 0
    assert shadow("report", out, "--html", tmp_path / "report.html") == 0
    told = capsys.readouterr().out + "".join(map(repr, read_pairs(out)))
    told += (out / "comparison.json").read_text() + (tmp_path / "report.html").read_text()
    assert "size-1" in told
    assert "-of-x" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_audit_that_is_ended_leaves_no_requests(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    request = personal_request(1, strings=False).SerializeToString()
    recording = write_records(tmp_path / "recorded", record(1, "mesh", answer(10, 11), request))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def end() -> None:
        wait_until(lambda: any(temporary.iterdir()))
        os.kill(os.getpid(), number)

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(SystemExit, match=str(128 + number)):
        shadow("compare", recording, "--store", store, "--audit", "--out", tmp_path / "out")
    ending.join()
    assert {path.name for path in tmp_path.iterdir()} == {"recorded", "temporary"}
    assert not any(temporary.iterdir())
