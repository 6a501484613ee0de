from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.key import KeyedHash
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.shadow.tap import (
    ANSWERED_TWICE,
    NOT_LOGGED,
    NOT_RECORDED,
    OTHER_IDS,
    OTHER_SURFACE,
    tapped,
)
from tests.compat.shadow.recordings import answer, record, write_records
from tests.compat.shadow.shop_requests import request

KEYED = KeyedHash(b"k" * 32)
MODEL = SideAnswer((1, 2), (0.5, 0.25), latency_ms=3.0)


def recorded(number: int) -> Pair:
    return Pair(KEYED.request_id(f"r{number}"), "shop", user_key="u", model=MODEL, request=b"request")


def logged(request_id: str, *item_ids: int) -> Pair:
    return Pair(request_id, mesh=SideAnswer(item_ids, latency_ms=2.0, version="m"))


def test_logged_answers_are_joined_to_recorded_requests_by_id() -> None:
    skipped = Skipped()
    answers = [logged("r2", 7), logged(KEYED.request_id("r0"), 8, 9), logged("r9", 1)]
    pairs = list(tapped(map(recorded, range(3)), answers, KEYED, skipped))
    # Plain ids and hashes under the key both fit; whatever else is known of a request is the recording's.
    assert pairs == [
        replace(recorded(0), mesh=logged("", 8, 9).mesh),
        recorded(1),
        replace(recorded(2), mesh=logged("", 7).mesh),
    ]
    assert skipped.counted == {NOT_LOGGED: 1, NOT_RECORDED: 1}
    # The comparison keeps its notes: they name no plain ids.
    hashed = KEYED.request_id("r9")
    assert any(f"not recorded: 1, first at request {hashed!r}" in note for note in skipped.notes())


def test_many_answers_of_several_sides() -> None:
    skipped = Skipped()
    answers = [replace(logged(f"r{n}", n), again=SideAnswer((n + 1,))) for n in reversed(range(1200))]
    pairs = list(tapped(map(recorded, range(1200)), answers, KEYED, skipped))
    assert [(p.mesh.item_ids, p.again.item_ids) for p in pairs if p.mesh and p.again] == [
        ((n,), (n + 1,)) for n in range(1200)
    ]
    assert not skipped


def test_a_side_that_is_recorded_stays() -> None:
    skipped = Skipped()
    own = replace(recorded(0), mesh=SideAnswer((5,)))
    assert list(tapped([own], [logged("r0", 6)], KEYED, skipped)) == [own]
    strings = Pair("r1", mesh=SideAnswer(("a",)))
    assert list(tapped([recorded(1)], [strings], KEYED, skipped)) == [recorded(1)]
    assert skipped.counted == {ANSWERED_TWICE: 1, OTHER_IDS: 1}


def test_an_answer_of_another_surface_is_not_joined() -> None:
    skipped = Skipped()
    answers = [replace(logged("r0", 6), surface="feed"), replace(logged("r1", 7), surface="shop")]
    pairs = list(tapped(map(recorded, range(2)), answers, KEYED, skipped))
    assert [pair.mesh is None for pair in pairs] == [True, False]
    assert skipped.counted == {OTHER_SURFACE: 1}


def test_a_mirror_s_recording_and_the_mesh_s_log_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [request(number) for number in range(30)]
    records = [
        record(number, "model", answer(1, 2, 3), each.SerializeToString()) for number, each in enumerate(made)
    ]
    folder = write_records(tmp_path / "recorded", *records)
    log = tmp_path / "mesh.jsonl"
    rows = [{"request_id": each.request_id, "item_ids": [1, 2, 4]} for each in reversed(made[:29])]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ["shadow", "compare", str(folder), "--mesh", str(log), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 3  # one request has no logged answer
    (surface,) = json.loads(capsys.readouterr().out)["comparison"]["surfaces"]
    figures = {figure["name"]: figure for figure in surface["figures"]}
    assert figures["overlap@10"]["pairs"] == 29
    assert figures["overlap@10"]["difference"]["value"] == pytest.approx(2 / 3)
    assert surface["users"] == 5
