from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshfold.compat.shadow.answer_rows import OTHER_SURFACE, TWICE
from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answer(request_id: str, side: str, *item_ids: Any, **more: Any) -> dict[str, Any]:
    return {"request_id": request_id, "side": side, "item_ids": item_ids, **more}


def read(*places: Path, **sides: Path) -> tuple[list[Pair], Skipped]:
    skipped = Skipped()
    of_sides = {PairSide(side): (path,) for side, path in sides.items()}
    return list(read_pairs(*places, sides=of_sides, skipped=skipped)), skipped


def test_answers_in_any_order_and_files_are_joined(tmp_path: Path) -> None:
    one = write(
        tmp_path / "1.jsonl", answer("b", "model", 2, 1), answer("a", "again", 5), answer("a", "mesh", 5, 6)
    )
    other = write(tmp_path / "2.jsonl", answer("a", "model", 6), answer("b", "mesh", 1, 2))
    for places in ((one, other), (other, one), (tmp_path,)):
        (a, b), skipped = read(*places)
        assert (a.request_id, b.request_id) == ("a", "b")
        assert (a.mesh, a.model, a.again) == tuple(
            SideAnswer(ids, latency_ms=given.latency_ms if given else 0)
            for ids, given in (((5, 6), a.mesh), ((6,), a.model), ((5,), a.again))
        )
        assert b.mesh is not None
        assert b.mesh.item_ids == (1, 2)
        assert not skipped


def test_what_one_side_leaves_out_another_tells(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        answer("a", "mesh", 1, user_key="u", filter="", latency_ms=2, scores=[0.5], version="v", unix_ms=5),
        answer("a", "model", 1, user_key="other", surface="shop", request="CAE=", slices={"x": 1}, unix_ms=6),
    )
    ((pair,), _) = read(path)
    assert (pair.user_key, pair.surface, pair.filter, pair.unix_ms) == ("u", "shop", "", 5)
    assert (pair.request, dict(pair.slices)) == (b"\x08\x01", {"x": "1"})
    assert pair.mesh == SideAnswer((1,), (0.5,), latency_ms=2, version="v")
    assert pair.model is not None
    assert math.isnan(pair.model.latency_ms)


def test_sides_of_whole_files(tmp_path: Path) -> None:
    """As a tap has them: one log a system, without a side in it."""
    mesh = write(tmp_path / "mesh.jsonl", *({"request_id": f"{i}", "item_ids": [i]} for i in range(2000)))
    columns = {
        "request_id": [str(i) for i in reversed(range(2000))],
        "item_ids": [[i, 7] for i in reversed(range(2000))],
    }
    pq.write_table(pa.table(columns), tmp_path / "model.parquet")
    found, skipped = read(mesh=mesh, model=tmp_path / "model.parquet", again=mesh)
    assert len(found) == 2000
    for pair in found:
        i = int(pair.request_id)
        assert pair.mesh is not None
        assert pair.model is not None
        assert pair.again is not None
        assert (pair.mesh.item_ids, pair.model.item_ids, pair.again.item_ids) == ((i,), (i, 7), (i,))
    assert not skipped


def test_an_answer_without_another_is_a_pair_of_one_side(tmp_path: Path) -> None:
    ((pair,), _) = read(write(tmp_path / "a.jsonl", answer("a", "mesh", 1)))
    assert pair.mesh is not None
    assert pair.model is None


def test_failures_are_answers(tmp_path: Path) -> None:
    failed = {"request_id": "a", "side": "model", "status": "UNAVAILABLE", "item_ids": None}
    without_items = {name: value for name, value in failed.items() if name != "item_ids"}
    for name, row in (("a", failed), ("b", without_items)):
        ((pair,), skipped) = read(write(tmp_path / f"{name}.jsonl", row, answer("a", "mesh", 1)))
        assert not skipped
        assert pair.model is not None
        assert (pair.model.status, pair.model.item_ids) == ("UNAVAILABLE", ())
    mesh = write(tmp_path / "mesh.jsonl", answer("a", "mesh", 1), {"request_id": "b"})
    model = write(tmp_path / "model.jsonl", {"request_id": "a", "status": "INTERNAL"})
    ((pair,), skipped) = read(mesh=mesh, model=model)
    assert pair.model is not None
    assert pair.model.status == "INTERNAL"
    assert skipped.counted == {"rows without item_ids and without a status": 1}


def test_answers_to_different_requests_of_one_id_are_told(tmp_path: Path) -> None:
    def rows(side: str, **told: Any) -> list[dict[str, Any]]:
        return [{**answer(name, side, 1), **told, "surface": name} for name in ("feed", "shop")]

    other = {**answer("feed", "model", 1), "surface": "shop"}
    found, skipped = read(write(tmp_path / "a.jsonl", *rows("mesh"), other, answer("shop", "model", 1)))
    assert [(pair.surface, pair.model is None) for pair in found] == [("feed", True), ("shop", False)]
    assert skipped.counted == {OTHER_SURFACE: 1}

    differ = [*rows("mesh", user_key="u", filter="", max_results=3), *rows("model", user_key="v", filter="x")]
    found, skipped = read(write(tmp_path / "b.jsonl", *differ))
    assert [(pair.user_key, pair.filter) for pair in found] == [("u", ""), ("u", "")]
    assert skipped.counted == {
        f"answers that tell another {name} than the request's first answer": 2
        for name in ("user_key", "filter")
    }


def test_bad_answers_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        answer("a", "mesh", 1),
        answer("a", "model", 1),
        answer("a", "mesh", 2),
        answer("a", "canary", 2),
        {"request_id": "a", "side": None, "item_ids": [1]},
        answer("b", "mesh", 1),
        answer("b", "model", "x"),
        answer("c", "mesh", float("nan")),
        {"request_id": "c", "side": "mesh", "item_ids": None},
    )
    ((pair,), skipped) = read(path)
    assert pair.mesh is not None
    assert pair.mesh.item_ids == (1,)
    assert skipped.counted == {
        TWICE: 1,
        "rows whose side is none of mesh, model, again": 2,
        "rows with integer ids on one side and strings on another": 1,
        "rows with item ids that are NaN or no whole numbers": 1,
        "rows without item_ids and without a status": 1,
    }
    assert skipped.first[TWICE] == f"{path}, row 3"


def test_pairs_where_answers_are_expected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"request_id": "a", "mesh_item_ids": [1], "model_item_ids": [1]})
    with pytest.raises(
        InvalidData, match="expected an answer of mesh with item_ids, got the columns of pairs"
    ):
        read(mesh=path)
