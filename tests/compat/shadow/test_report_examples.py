from __future__ import annotations

import random
from itertools import combinations

import pytest

from meshfold.compat.shadow.comparison import Cause, Difference, Example, ItemText
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.report.examples import MOST_RANKS, ItemCell, _moved, example_view


def shown(
    mesh: tuple[int, ...], model: tuple[int, ...], again: tuple[int, ...] | None = None
) -> list[tuple[ItemCell | None, ItemCell | None]]:
    pair = Pair(
        "r",
        mesh=SideAnswer(mesh, tuple(1 - place / 100 for place in range(len(mesh)))),
        model=SideAnswer(model),
        again=None if again is None else SideAnswer(again),
    )
    view = example_view(Example(pair, {}, (Difference(2, "model", 2, Cause.MODEL_ANN_MISS),)))
    return [(a, b) for _, a, b in view.rows]


def marks(cells: list[ItemCell | None]) -> str:
    """A letter an item: o as in the other answer, m moved, x missing there, - past the end."""
    return "".join("-" if c is None else "x" if c.is_only else "m" if c.is_moved else "o" for c in cells)


@pytest.mark.parametrize(
    ("mesh", "model", "expected"),
    [
        ((1, 2, 3), (1, 2, 3), ("ooo", "ooo")),
        # A missing item moves nothing that stands behind it.
        ((1, 2, 3, 4), (1, 3, 4, 5), ("oxoo", "ooox")),
        ((1, 2, 3, 4), (4, 1, 2, 3), ("ooom", "mooo")),
        ((1, 2), (1, 2, 3), ("oo-", "oox")),
        ((), (7,), ("-", "x")),
        ((), (), ("", "")),
    ],
)
def test_marks_are_few(mesh: tuple[int, ...], model: tuple[int, ...], expected: tuple[str, str]) -> None:
    rows = shown(mesh, model)
    assert (marks([a for a, _ in rows]), marks([b for _, b in rows])) == expected


def test_a_mark_says_why() -> None:
    rows = shown((1, 2, 3, 4, 5), (5, 1, 3, 4, 6), again=(1, 3, 4, 5, 6))
    assert [a.why for a, _ in rows if a is not None] == [
        "",
        "model's search missed it, nor in the mesh, asked again",
        "",
        "",
        "model rank 1",
    ]
    assert [b.why for _, b in rows if b is not None] == ["mesh rank 5", "", "", "", "not in the mesh"]


def test_items_are_moved_as_few_as_can_be() -> None:
    chance = random.Random(0)
    for _ in range(200):
        mesh, model = (chance.sample(range(9), 7) for _ in range(2))
        common = [item for item in mesh if item in model]
        moved = _moved(mesh, model)
        assert moved <= set(common)
        stay = [item for item in common if item not in moved]
        assert sorted(stay, key=model.index) == stay
        longest = max(
            length
            for length in range(len(common) + 1)
            if any(sorted(some, key=model.index) == list(some) for some in combinations(common, length))
        )
        assert len(stay) == longest


def test_of_two_that_change_places_the_one_between_stays() -> None:
    assert _moved([1, 2, 3], [3, 2, 1]) == {1, 3}


def test_beside_an_answer_that_failed_nothing_is_marked() -> None:
    pair = Pair("r", mesh=SideAnswer((1, 2)), model=SideAnswer((), status="INTERNAL"))
    assert marks([a for _, a, _ in example_view(Example(pair, {})).rows]) == "oo"


def test_neighbours_of_one_value_are_ties() -> None:
    scores = (0.5, 0.5 + 1e-9, 0.4, 0.3, 0.3)
    pair = Pair("r", mesh=SideAnswer((1, 2, 3, 4, 5), scores), model=SideAnswer((1, 2, 3, 4, 5)))
    rows = example_view(Example(pair, {})).rows
    assert [a.is_tie for _, a, _ in rows if a is not None] == [True, True, False, True, True]
    assert [b.is_tie for _, _, b in rows if b is not None] == [False] * 5


def test_items_have_titles_or_ids() -> None:
    items: dict[int | str, ItemText] = {
        "a": ItemText("Title", {"year": "1999", "none": ""}),
        "b": ItemText("", {"year": "2000"}),
    }
    pair = Pair("r", mesh=SideAnswer(("a", "b", "c")), model=SideAnswer((), status="UNAVAILABLE"))
    view = example_view(Example(pair, {}, items=items))
    told = [(a.title, a.details) for _, a, _ in view.rows if a is not None]
    assert told == [("Title", "a · 1999"), ("b", "2000"), ("c", "")]
    assert [(head.facts, head.is_failed) for head in view.heads] == [
        ("3 results", False),
        ("UNAVAILABLE", True),
    ]


def test_long_answers_are_cut_and_said_to_be() -> None:
    ids = tuple(range(MOST_RANKS + 50))
    view = example_view(Example(Pair("r", mesh=SideAnswer(ids), model=SideAnswer(ids)), {}))
    assert len(view.rows) == MOST_RANKS
    assert view.left_out == 50
