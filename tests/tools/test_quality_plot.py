import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
from meshfold.tools.quality_plot import draw


def rows(tasks: tuple[str, ...], rankings: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "search": search,
            "ranking": ranking,
            "candidates": candidates,
            "users": 10,
            "recall@50": 0.1,
            "ndcg@50": 0.0,
            "p50_ms": candidates / 100,
            "p95_ms": candidates / 50,
        }
        for task in tasks
        for search in ("index", "exact")
        for ranking in rankings
        for candidates in (256, 4096)
    ]


def size(path: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


def test_a_line_of_panels_a_task(tmp_path: Path) -> None:
    draw(rows(("watch",), ("similarity",)), "shop, 5 items", tmp_path / "one.png")
    draw(rows(("like", "watch", "buy"), ("over_arch", "similarity")), "shop, 5 items", tmp_path / "three.png")
    one, three = size(tmp_path / "one.png"), size(tmp_path / "three.png")
    assert one[0] == three[0]
    assert three[1] > 2 * one[1]


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw(rows(("watch",), ("over_arch",)), "shop", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
