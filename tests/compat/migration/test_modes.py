from __future__ import annotations

import pytest

from meshfold.compat.migration.modes import MOST_CHANGES, MOST_SURFACES, Change, Kind, Mode, Modes
from meshfold.model.errors import InvalidQuery

SERVE = Mode(Kind.SERVE)


def test_the_mesh_answers_where_nothing_is_said() -> None:
    assert Modes().of("feed") == Mode(Kind.MESH)


def test_a_surface_has_its_own_mode_or_the_default() -> None:
    modes = Modes().changed(Change("", Mode(Kind.MIRROR))).changed(Change("feed", SERVE))
    assert (modes.of("feed"), modes.of("video")) == (SERVE, Mode(Kind.MIRROR))
    assert modes.dropped(Change("feed", modes.default.mode)).of("feed") == Mode(Kind.MIRROR)


def test_changes_are_counted_and_the_latest_kept() -> None:
    modes = Modes()
    for i in range(MOST_CHANGES + 5):
        modes = modes.changed(Change("feed", Mode(Kind.CANARY, i % 100), "me", f"step {i}", i))
    assert modes.generation == MOST_CHANGES + 5
    assert [change.unix_ms for change in modes.history] == list(range(MOST_CHANGES + 4, 4, -1))


def test_a_kill_leaves_nothing_to_the_model() -> None:
    modes = Modes().changed(Change("", SERVE)).changed(Change("feed", Mode(Kind.ONLY)))
    killed = modes.killed("me", "broken", 7)
    assert {killed.of("feed"), killed.of("video")} == {Mode(Kind.MESH)}
    assert killed.history[0] == Change("", Mode(Kind.MESH), "me", "broken", 7, kill=True)
    # What comes to the default later does not bring a surface back that had a mode of its own.
    assert killed.changed(Change("", SERVE)).of("feed") == Mode(Kind.MESH)


@pytest.mark.parametrize(
    ("kind", "percent", "said"),
    [
        (Kind.CANARY, -1, "0 to 100, got -1"),
        (Kind.CANARY, 100.5, "0 to 100, got 100.5"),
        (Kind.CANARY, float("nan"), "0 to 100, got nan"),
        (Kind.SERVE, 5, "goes with canary alone, not with serve"),
    ],
)
def test_a_mode_that_is_none(kind: Kind, percent: float, said: str) -> None:
    with pytest.raises(InvalidQuery, match=said):
        Mode(kind, percent)


def test_the_state_is_bounded() -> None:
    with pytest.raises(InvalidQuery, match="why: has 1001 characters"):
        Change("feed", SERVE, why="x" * 1001)
    modes = Modes(surfaces={str(i): Change(str(i), SERVE) for i in range(MOST_SURFACES)})
    with pytest.raises(InvalidQuery, match="let one follow the default first"):
        modes.changed(Change("another", SERVE))
    modes.changed(Change("3", Mode(Kind.MESH)))
    # A file may hold more, from a time when more were allowed: those can still be switched.
    more = Modes(surfaces={str(i): Change(str(i), SERVE) for i in range(MOST_SURFACES + 5)})
    assert more.changed(Change("3", Mode(Kind.MESH))).of("3") == Mode(Kind.MESH)
