from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.gate.verdict import Decision, Verdict
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.compat.shadow.pair_files import PairLimits, PairWriter
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.meshfold.v1 import recording_pb2
from tests.compat.shadow.recordings import answer, record, write_records

USERS = 150
# Few users are enough for these; nobody timed the answers.
FEW = (
    "--min-users",
    100,
    "--errors-pass",
    0.1,
    "--causes-pass",
    0.2,
    "--margin",
    0.1,
    "--p99-stop-ms",
    "inf",
)


def request(number: int) -> bytes:
    made = pb.RetrieveRequest(request_id=f"r{number}", surface="shop", max_results=10)
    made.user.user_id = number + 1
    made.user.history[:] = [10 + number, 90]
    message: bytes = made.SerializeToString()
    return message


Recorded = Callable[..., Path]


@pytest.fixture(scope="module")
def answers(store: Path) -> list[SideAnswer]:
    """Of the store's snapshot."""
    snapshot = SnapshotAnswers(store)
    return [snapshot.answer(request(number)) for number in range(USERS)]


def of_version(version: str, items: list[int]) -> bytes:
    response = pb.RetrieveResponse.FromString(answer(*items))
    response.versions.index = version
    message: bytes = response.SerializeToString()
    return message


@pytest.fixture
def recorded(tmp_path: Path, answers: list[SideAnswer]) -> Recorded:
    """A recording of the mesh, which answers as the store's snapshot. lost: the best items of each answer, in whose
    place the model has others; None without the model. again: whether the mesh was asked twice."""

    def write(lost: int | None = 0, again: bool = True) -> Path:
        records: list[recording_pb2.Recorded] = []
        known = sorted({int(item) for one in answers for item in one.item_ids})
        for number, one in enumerate(answers):
            found = [int(item) for item in one.item_ids]
            records.append(record(number, "mesh", answer(*found), request(number)))
            if lost is not None:
                others = [item for item in known if item not in found][number % 20 :]
                model = [*found[lost:], *others[:lost]]
                records.append(record(number, "model", of_version(one.version, model), shadow=True))
            if again:
                records.append(record(number, "mesh", answer(*found), shadow=True, again=True))
        return write_records(tmp_path / "recorded", *records)

    return write


def gate(*words: object) -> int:
    return main(["gate", *map(str, words)])


def verdict(capsys: pytest.CaptureFixture[str], *words: object, status: int) -> Verdict:
    assert gate(*words, "--json") == status
    [told] = json.loads(capsys.readouterr().out)["verdicts"]
    return Verdict.from_json(told)


def test_yes_no_and_not_enough(store: Path, recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--recording", recorded(), "--store", store)
    assert gate(*words, *FEW) == 0
    shown = capsys.readouterr().out
    assert f"shop: yes ({USERS} pairs of {USERS} users, {USERS} asked twice)" in shown
    assert "overlap@100" in shown
    told = verdict(capsys, *words, status=2)
    assert told.decision is Decision.NOT_ENOUGH
    assert any("200 users are needed" in reason.sentence for reason in told.reasons)


def test_a_model_that_loses_items_is_stopped(
    store: Path, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    told = verdict(capsys, "--recording", recorded(lost=3), "--store", store, *FEW, status=1)
    [overlap] = [reason for reason in told.reasons if reason.name == "overlap@100"]
    assert overlap.decision is Decision.NO
    assert overlap.value == pytest.approx(-0.3)


def test_snapshots_answer_what_the_model_did_not(
    store: Path, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh_alone = recorded(lost=None)
    assert gate("--recording", mesh_alone, "--store", store, *FEW) == 0
    assert "answered the requests on the model's side" in capsys.readouterr().out
    told = verdict(capsys, "--recording", recorded(lost=3), "--store", store, "--audit", *FEW, status=0)
    assert told.pairs == USERS


def test_a_newer_snapshot_is_judged_by_the_older(
    store: Path,
    recorded: Recorded,
    tmp_path: Path,
    publish_items: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording = recorded(lost=None, again=False)
    publish_items(tmp_path / "other", "shop", 1)
    told = verdict(
        capsys, "--recording", recording, "--store", store, "--against", store, *FEW[:-2], status=0
    )
    assert told.noise_pairs == USERS
    assert {"p99"}.isdisjoint(reason.name for reason in told.reasons)
    other = ("--recording", recording, "--store", store, "--against", tmp_path / "other", *FEW)
    assert verdict(capsys, *other, status=1).decision is Decision.NO


def test_pairs_and_comparisons_are_judged(
    store: Path, answers: list[SideAnswer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pairs"
    writer = PairWriter(folder, PairLimits(), lambda pair: pair)
    for pair in _pairs(answers):
        writer.append(pair)
    writer.close()
    assert gate("--recording", folder, "--store", store, *FEW) == 0
    words = ("--store", store, "--out", tmp_path / "compared", "--attribute", 1000)
    assert main(["shadow", "compare", str(folder), *map(str, words)]) == 0
    capsys.readouterr()
    told = verdict(capsys, "--recording", tmp_path / "compared", "--store", store, *FEW, status=0)
    # Requests are redacted there, and the causes are those that the comparison found.
    assert any(
        reason.name == "model_catalog" and "over 150 users" in reason.sentence for reason in told.reasons
    )


def test_settings_are_of_a_file_then_of_flags(
    store: Path, recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(
        "[gate]\nmin_users = 100\nerrors_pass = 0.1\ncauses_pass = 0.2\nmargin = 0.001\np99_stop_ms = inf\n"
        "[gate.measures]\nrbo = 0.1\n"
    )
    words = ("--recording", recorded(), "--store", store, "--settings", file)
    told = verdict(capsys, *words, status=2)
    assert next(one.bound for one in told.reasons if one.name == "overlap@100") == -0.001
    assert verdict(capsys, *words, "--margin", 0.1, status=0).decision is Decision.YES


@pytest.mark.parametrize(
    ("words", "content", "told"),
    [
        (("--recording", "missing"), "", "missing is not there; name a recording"),
        (("--store", "missing"), "", "missing cannot be read as a store"),
        (
            ("--settings", "gate.toml"),
            "[gate]\nmargin = 2",
            "gate.toml: gate.margin must be over 0 and under 1",
        ),
        (("--settings", "gate.toml"), "margin = 2", "gate.toml has no table [gate]"),
        (("--settings", "gate.toml"), "[gate", "gate.toml is not a TOML file"),
        (("--settings", "missing"), "", "the settings file missing cannot be read"),
        (("--margin", "nan"), "", "the command line: gate.margin must be"),
        (("--surface", "nope"), "", "no pair is of surface 'nope'; the first pair is request"),
    ],
)
def test_what_cannot_be_read_is_no_verdict(
    words: tuple[str, ...],
    content: str,
    told: str,
    store: Path,
    recorded: Recorded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording = recorded()
    monkeypatch.chdir(tmp_path)
    Path("gate.toml").write_text(content)
    assert gate("--recording", recording, "--store", store, *words) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


def test_a_command_line_that_does_not_fit(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--against", "x", "--audit"), ("--attribute", "-1"), ("--margin", "a")):
        with pytest.raises(SystemExit) as ended:
            gate("--recording", "r", "--store", store, *words)
        assert ended.value.code == 2
    assert "leave --audit out" in capsys.readouterr().err


def _pairs(answers: list[SideAnswer]) -> list[Pair]:
    """A third of the model's answers have another item."""
    made = []
    known = sorted({int(item) for one in answers for item in one.item_ids})
    for number, side in enumerate(answers):
        items = [int(item) for item in side.item_ids]
        # One that the request admits: no history has it.
        another = next(item for item in known if item not in items and not 10 <= item < 10 + USERS)
        other = replace(side, item_ids=(*items[1:], another)) if number % 3 == 0 else side
        pair = Pair(f"r{number}", "shop", f"u{number}", mesh=side, model=other, again=side, filter="")
        made.append(replace(pair, request=request(number)))
    return made
