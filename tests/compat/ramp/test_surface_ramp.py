"""What a ramp does of what the gate says, on a running server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.compat.migration.modes import Mode
from meshfold.compat.ramp.audit_log import Action, By
from meshfold.compat.ramp.ramp_state import RampStore
from meshfold.compat.ramp.servers import WHO, Servers
from meshfold.compat.ramp.status import State, Status
from meshfold.compat.ramp.switching import put_in_effect
from meshfold.model.errors import InvalidConfig, NotDurable, Unprepared
from meshfold.service.server import Server
from tests.compat.ramp.conftest import COMPARED, SURFACE, World

Make = Callable[..., World]


def at(step: int) -> Callable[[Status], bool]:
    return lambda status: status.step == step and status.since_unix_ms > 0


def is_over(status: Status) -> bool:
    return status.state.is_over


def test_a_model_that_agrees_goes_from_the_mesh_to_serve(world: Make) -> None:
    one = world()
    assert one.mode == "mesh"
    ramp = one.ramp()
    ramp.look()
    assert one.mode == "mirror"
    assert one.until(ramp, at(1)).mode == one.mode == "canary 5 %"
    status = one.until(ramp, is_over)
    assert (status.state, one.mode) == (State.DONE, "serve")
    assert ramp.is_over
    actions = [entry.action for entry in one.log if entry.action is not Action.HOLD]
    assert actions == [Action.START, Action.PROMOTE, Action.PROMOTE, Action.DONE]
    for entry in one.log[1:]:
        assert entry.by is By.GATE
        assert entry.verdict is not None
        assert entry.verdict["pairs"] > 0
    assert [entry.number for entry in one.log] == list(range(1, len(one.log) + 1))


def test_a_model_that_differs_falls_back_to_mirror_with_the_reason(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, at(1))
    status = one.until(ramp, is_over, shared=3, side="model", count=100)
    assert (status.state, status.step, one.mode) == (State.FALLEN_BACK, 0, "mirror")
    last = one.log[-1]
    assert (last.action, last.before, last.after) == (Action.FALL_BACK, "canary 5 %", "mirror")
    assert last.verdict is not None
    assert "overlap@100" in [r["name"] for r in last.verdict["reasons"] if r["decision"] == "no"]
    assert last.served_users >= 100
    assert last.why == status.reason != ""
    assert ramp.is_over


def test_a_model_that_differs_in_mirror_never_leaves_it(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    status = one.until(ramp, is_over, shared=3)
    assert (status.state, one.mode) == (State.FALLEN_BACK, "mirror")
    client = one.client()
    assert [str(change.mode) for change in client.show().modes.history] == ["mirror"]
    client.close()


def test_a_step_takes_its_hold_time(world: Make) -> None:
    one = world(hold_s=[60, 0, 0])
    ramp = one.ramp()
    ramp.look()
    for _ in range(10):
        status = one.look(ramp)
    assert status.verdict is not None
    assert status.verdict.decision == "yes"
    assert status.step == 0
    assert "holds until" in status.reason
    one.now_ms += 60_000
    assert one.look(ramp).step == 1


def test_too_few_pairs_hold_and_are_logged_once(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    ramp.look()
    for _ in range(5):
        status = one.look(ramp, count=2)
    assert (status.step, status.state) == (0, State.RUNNING)
    assert [entry.action for entry in one.log].count(Action.HOLD) == 1
    assert "users are needed" in status.reason


def test_only_pairs_of_the_step_are_its_evidence(world: Make) -> None:
    one = world()
    before = one.pairs(count=500, shared=3)
    ramp = one.ramp()
    one.now_ms += 5000
    ramp.look()
    assert "no pairs to judge yet" in one.status(ramp).reason
    assert "pairs is not there yet" in one.status(ramp).reason
    status = one.look(ramp, before)
    assert status.verdict is None
    assert "500 older ones came" in status.reason
    assert "compare the clocks" in status.reason
    assert one.until(ramp, at(1)).state is State.RUNNING


def test_another_version_of_the_model_begins_anew(world: Make, publish_items: Callable[..., Path]) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, at(1))
    one.look(ramp, count=10)
    status = one.look(ramp, version="b" * 64)
    assert one.log[-1].action is Action.RESTART
    assert (status.step, status.verdict, one.mode) == (1, None, "canary 5 %")
    status = one.until(ramp, lambda status: "does not hold" in status.reason, version="b" * 64)
    assert (status.step, status.verdict) == (1, None)


@pytest.mark.parametrize("mode", ["mesh", "serve"])
def test_who_switches_by_hand_wins(world: Make, mode: str) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, at(1))
    client = one.client()
    client.set(SURFACE, mode, 0, "alice", "incident 7")
    status = one.look(ramp, shared=3)
    assert status.state is State.PAUSED
    assert status.reason == f"paused: the mode was changed to {mode} by alice: incident 7"
    for _ in range(3):
        one.look(ramp, shared=3)
    assert one.mode == mode
    assert client.show().modes.surfaces[SURFACE].who == "alice"
    assert (one.log[-1].action, one.log[-1].who) == (Action.PAUSE, "alice")
    client.close()


def test_a_kill_wins_over_a_decision_that_is_on_its_way(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    servers = Servers([one.server.admin_address])
    looks = servers.look()
    client = one.client()
    client.kill("alice", "empty answers")
    found = put_in_effect(ramp.states[SURFACE], looks, servers)
    assert not found.in_effect
    assert "changed meanwhile" in found.troubles[0]
    assert one.mode == "mesh"
    ramp.look()
    assert one.status(ramp).state is State.PAUSED
    assert "by alice (kill): empty answers" in one.status(ramp).reason
    assert one.mode == "mesh"
    servers.close()
    client.close()


def test_what_a_kill_cut_off_between_decision_and_mode_is_made_whole(world: Make) -> None:
    one = world()
    one.ramp()  # decided to start, and killed before the first look
    assert one.mode == "mesh"
    ramp = one.ramp()
    assert [entry.action for entry in one.log] == [Action.START]
    ramp.look()
    assert one.mode == "mirror"
    client = one.client()
    (change,) = client.show().modes.history
    assert change.who == WHO
    assert change.why.startswith(one.log[0].tag)
    client.close()


def test_what_a_kill_kept_out_of_the_audit_log_is_added(world: Make) -> None:
    one = world()
    one.ramp()
    log = one.folder / "ramp-log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    one.ramp()
    assert [entry.number for entry in one.log] == [1]


def test_a_ramp_goes_on_after_a_kill_with_the_evidence_that_it_had(world: Make) -> None:
    one = world(hold_s=[10, 0, 0])
    ramp = one.ramp()
    ramp.look()
    for _ in range(8):
        status = one.look(ramp)
    assert status.verdict is not None
    again = one.ramp()
    one.now_ms += 10_000
    again.look()
    assert one.status(again).step == 1
    assert one.log[-1].verdict is not None
    assert one.log[-1].verdict["pairs"] == status.verdict.pairs


def test_no_mode_follows_what_the_audit_log_cannot_hold(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    ramp.look()
    log = one.folder / "ramp-log.jsonl"
    log.rename(one.folder / "kept")
    log.mkdir()
    with pytest.raises(NotDurable, match=r"audit log .* cannot be written"):
        one.until(ramp, at(1))
    with pytest.raises(NotDurable, match="no mode is changed"):
        ramp.look()
    assert one.mode == "mirror"
    log.rmdir()
    (one.folder / "kept").rename(log)
    one.until(ramp, at(1))
    assert one.mode == "canary 5 %"
    numbers = [entry.number for entry in one.log]
    assert numbers == list(range(1, len(numbers) + 1))


def test_nothing_is_promoted_while_a_server_does_not_answer(
    world: Make, start: Callable[..., Server]
) -> None:
    one = world()
    other = start(one.store, {"comparison": COMPARED})
    one.settings["servers"] = [one.server.admin_address, other.admin_address]
    ramp = one.ramp()
    ramp.look()
    while not one.status(ramp).since_unix_ms:
        time.sleep(0.1)  # until the other follows the file of modes
        ramp.look()
    other.stop()
    for _ in range(8):
        status = one.look(ramp)
    assert status.step == 0
    assert "held until all servers answer: no answer from" in status.reason
    status = one.until(ramp, is_over, shared=3)
    assert status.state is State.FALLEN_BACK


def test_a_state_of_another_plan_is_refused(world: Make) -> None:
    one = world()
    one.ramp()
    one.settings["steps"] = ["mirror", "canary 10", "serve"]
    with pytest.raises(
        InvalidConfig, match=r"steps are mirror, canary 10 %, serve, and .* follows mirror, canary 5 %"
    ):
        one.ramp()


def test_a_surface_that_the_model_answers_already_is_refused(world: Make) -> None:
    one = world()
    client = one.client()
    client.set(SURFACE, "canary", 25, "alice", "")
    client.close()
    with pytest.raises(Unprepared, match=r"is in canary 25 % by alice.*`meshfold mode shop mirror`"):
        one.ramp()


def test_a_state_that_cannot_be_read_stops_the_ramp(world: Make) -> None:
    one = world()
    one.ramp()
    (one.folder / "ramp.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(InvalidConfig, match="holds no ramp: .*put back a copy"):
        one.ramp()


def test_the_state_is_what_was_written(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, is_over, shared=3)
    store = RampStore(str(one.folder / "ramp.json"), one.folder / "ramp-log.jsonl")
    assert store.read() == RampStore(str(one.folder / "ramp.json"), one.folder / "other").read()
    kept = store.read()
    assert kept is not None
    assert kept.surfaces[SURFACE].status == one.status(ramp)
    assert str(Mode("mirror")) == kept.surfaces[SURFACE].status.mode  # type: ignore[arg-type]
