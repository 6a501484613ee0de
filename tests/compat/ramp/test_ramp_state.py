"""The state of a ramp and its audit log, without servers."""

from __future__ import annotations

import copy
import fcntl
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from meshfold.compat.ramp import decisions
from meshfold.compat.ramp.audit_log import AuditLog
from meshfold.compat.ramp.ramp import alone, is_followed
from meshfold.compat.ramp.ramp_state import RampStore, SurfaceState
from meshfold.compat.ramp.status import State
from meshfold.compat.ramp.steps import mode_of
from meshfold.model.errors import InvalidConfig, NotDurable, Unprepared

STEPS = ("mirror", "canary 5 %", "serve")
NOW_MS = 1_760_000_000_000


def begun(surface: str) -> Callable[[SurfaceState | None], SurfaceState | None]:
    return lambda kept: decisions.begun(surface, STEPS, [], "a test", NOW_MS)


def paused(kept: SurfaceState | None) -> SurfaceState | None:
    assert kept is not None
    return decisions.paused(kept, "a test", "", NOW_MS)


def numbers(log: Path) -> list[int]:
    """Oldest first."""
    return [entry.number for entry in reversed(AuditLog(log).latest(100))]


def test_every_decision_is_logged_though_an_older_copy_of_the_state_is_put_back(tmp_path: Path) -> None:
    state, log = tmp_path / "ramp.json", tmp_path / "ramp-log.jsonl"
    store = RampStore(str(state), log)
    store.decide("feed", begun("feed"))
    shutil.copy(state, tmp_path / "copy")
    for _ in range(3):
        store.decide("feed", paused)
    shutil.copy(tmp_path / "copy", state)
    again = RampStore(str(state), log)
    decided = again.decide("feed", paused)
    assert decided is not None
    assert numbers(log) == [1, 2, 3, 4, 5]
    assert decided.decision.number == 5


def test_two_ramps_that_share_a_log_lose_no_decision(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    one, other = (RampStore(str(tmp_path / name), log) for name in ("one.json", "other.json"))
    one.decide("feed", begun("feed"))
    for _ in range(3):
        one.decide("feed", paused)
    other.decide("search", begun("search"))
    other.decide("search", paused)
    one.decide("feed", paused)
    surfaces = [entry.surface for entry in reversed(AuditLog(log).latest(100))]
    assert surfaces == ["feed"] * 4 + ["search"] * 2 + ["feed"]


def test_a_full_disk_leaves_whole_lines_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    store = RampStore(str(tmp_path / "ramp.json"), log)
    decided = store.decide("feed", begun("feed"))
    assert decided is not None
    before = log.read_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, hard))
    try:
        with pytest.raises(NotDurable, match=r"audit log .* cannot be written"):
            store.log.catch_up([replace(decided.decision, number=2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.read_bytes() == before


def test_who_looks_keeps_nobody_from_following_a_plan(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not is_followed(log)
    with alone(log):
        assert is_followed(log)
    with (tmp_path / "log.running").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_followed(log)
        with pytest.raises(Unprepared, match="another plan needs a state and a log of its own"), alone(log):
            pass
    with alone(log):
        pass


def places(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every object or list with a key of it."""
    if isinstance(found, dict | list):
        for key in found if isinstance(found, dict) else range(len(found)):
            yield found, key
            yield from places(found[key])


def test_a_state_that_was_damaged_in_any_place_is_read_or_refused(tmp_path: Path) -> None:
    """Whatever is read can be shown and followed."""
    state = tmp_path / "ramp.json"
    RampStore(str(state), tmp_path / "log").decide("feed", begun("feed"))
    whole = json.loads(state.read_text())
    refused = 0
    for number in range(len(list(places(whole)))):
        wrong: Any
        for wrong in (None, [], {}, "x", -1, 10**30, float("inf"), float("nan")):
            changed = copy.deepcopy(whole)
            of, key = list(places(changed))[number]
            of[key] = wrong
            state.write_text(json.dumps(changed))
            try:
                found = RampStore(str(state), tmp_path / "log").read()
            except InvalidConfig:
                refused += 1
                continue
            assert found is not None
            for own in found.surfaces.values():
                mode_of(own.status.mode)
                decisions.resumed(own, [], "a test", "", NOW_MS)
                for unix_ms in (own.status.since_unix_ms, own.decision.unix_ms):
                    datetime.fromtimestamp(unix_ms / 1000, UTC)
    assert refused > 100


def test_a_surface_that_is_over_is_kept(tmp_path: Path) -> None:
    store = RampStore(str(tmp_path / "ramp.json"), tmp_path / "log")
    store.decide("feed", begun("feed"))
    store.decide("feed", lambda own: decisions.aborted(own, "a test", "", NOW_MS) if own else None)
    kept = RampStore(store.name, tmp_path / "log").read()
    assert kept is not None
    assert kept.surfaces["feed"].status.state is State.ABORTED
    by_hand = replace(kept.surfaces["feed"].status, mode="only")
    store.note("feed", 2, lambda own: replace(own, status=by_hand, in_effect=True))
    assert RampStore(store.name, tmp_path / "log").read() is not None


@pytest.mark.parametrize("mode", ["banana", "canary 200 %", "only"])
def test_a_mode_that_nothing_can_follow_is_refused(tmp_path: Path, mode: str) -> None:
    store = RampStore(str(tmp_path / "ramp.json"), tmp_path / "log")
    store.decide("feed", begun("feed"))
    store.note("feed", 1, lambda own: replace(own, status=replace(own.status, mode=mode)))
    with pytest.raises(InvalidConfig, match="put back a copy"):
        RampStore(store.name, tmp_path / "log").read()
