"""`meshfold migrate` and what operators tell a ramp."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.ramp.audit_log import Action
from meshfold.compat.ramp.checks import check
from meshfold.compat.ramp.plan import EXAMPLE, read_plan
from meshfold.compat.ramp.ramp import alone
from meshfold.compat.ramp.status import State
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
from meshfold.service.comparison import ComparisonConfig
from tests.compat.ramp.conftest import COMPARED, SURFACE, World
from tests.compat.ramp.test_surface_ramp import Make, at, is_over

COMMAND = [sys.executable, "-P", "-m", "meshfold.commands", "migrate"]


def migrate(one: World, *words: str) -> int:
    action, *rest = words
    return main(["migrate", action, str(one.plan), *rest, "--who", "alice"])


@contextmanager
def pairs_coming(one: World, **of: Any) -> Iterator[None]:
    """Until the block ends, on this machine's clock."""
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.1):
            one.now_ms = time.time_ns() // 1_000_000
            one.write(one.pairs(**of))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_example_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--example"]) == 0
    assert capsys.readouterr().out.strip() == EXAMPLE.strip()


@pytest.mark.parametrize(
    "words", [["migrate"], ["migrate", "status"], ["migrate", "halt", "p"], ["migrate", "override", "p"]]
)
def test_what_is_no_command_line_is_told(
    words: list[str], world: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = str(world().plan)
    with pytest.raises(SystemExit, match="2"):
        main([plan if word == "p" else word for word in words])
    told = capsys.readouterr().err
    assert "expected" in told or "--to names the step" in told


def test_it_is_followed_to_serve_though_it_is_killed(world: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one = world(poll_s=0.05)
    plan = one.plan
    with pairs_coming(one):
        process = subprocess.Popen([*COMMAND, plan], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert any("start by" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert one.mode in ("mesh", "mirror")
        assert main(["migrate", str(plan)]) == 0
    assert one.mode == "serve"
    assert [e.action for e in one.log if e.action is not Action.HOLD] == [
        *(Action.START, Action.PROMOTE, Action.PROMOTE, Action.DONE),
    ]
    assert "canary 5 % -> serve" in capsys.readouterr().out
    assert main(["migrate", "status", str(plan), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["running"] is False
    assert told["surfaces"][0]["state"] == "done"
    assert told["decisions"][0]["action"] == "done"


def test_a_fallen_ramp_ends_with_its_status(world: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one = world(poll_s=0.05)
    with pairs_coming(one, shared=2):
        assert main(["migrate", str(one.plan)]) == 3
    assert "resume" in capsys.readouterr().out
    assert main(["migrate", str(one.plan)]) == 3


def test_two_processes_do_not_follow_one_plan(world: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one = world()
    with alone(one.folder / "ramp-log.jsonl"):
        assert main(["migrate", str(one.plan)]) == 1
        assert "another `meshfold migrate` follows this plan" in capsys.readouterr().err
        one.ramp()
        assert main(["migrate", "status", str(one.plan)]) == 0
    assert "a process follows this plan" in capsys.readouterr().out


def test_a_paused_ramp_changes_nothing_until_it_is_resumed(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, at(1))
    assert migrate(one, "pause", "--why", "incident 7") == 0
    for _ in range(8):
        status = one.look(ramp, shared=3)
    assert (status.state, status.reason, one.mode) == (
        *(State.PAUSED, "paused by alice: incident 7", "canary 5 %"),
    )
    assert migrate(one, "pause") == 1
    assert migrate(one, "resume") == 0
    ramp.look()
    assert (one.status(ramp).state, one.status(ramp).step) == (State.RUNNING, 1)
    assert one.until(ramp, is_over, shared=3).state is State.FALLEN_BACK


def test_after_a_change_by_hand_it_is_resumed_from_the_mode_in_effect(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, at(1))
    client = one.client()
    client.kill("bob", "")
    ramp.look()
    assert migrate(one, "resume") == 0
    ramp.look()
    assert (one.status(ramp).step, one.mode) == (0, "mirror")
    client.set(SURFACE, "canary", 30, "bob", "")
    ramp.look()
    assert migrate(one, "resume") == 0
    ramp.look()
    assert (one.status(ramp).step, one.mode) == (1, "canary 5 %")
    client.close()


def test_an_override_goes_to_the_step_and_the_gate_goes_on(
    world: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    one = world()
    ramp = one.ramp()
    ramp.look()
    assert migrate(one, "override", "--to", "serve", "--why", "looked at by hand") == 0
    assert "nothing follows the plan now" in capsys.readouterr().out
    ramp.look()
    assert one.mode == "serve"
    assert (one.log[-1].action, one.log[-1].who) == (Action.OVERRIDE, "alice")
    assert one.until(ramp, is_over, shared=3).state is State.FALLEN_BACK
    assert migrate(one, "override", "--to", "only") == 1
    assert migrate(one, "override", "--to", "canary 7") == 1
    assert "expected one of mirror, canary 5 %, serve" in capsys.readouterr().err


def test_an_aborted_ramp_leaves_the_mesh_answering_without_a_process(world: Make) -> None:
    one = world()
    ramp = one.ramp()
    one.until(ramp, at(1))
    client = one.client()
    client.set(SURFACE, "canary", 30, "bob", "by hand")
    assert migrate(one, "abort", "--why", "another time") == 0
    assert one.mode == "mesh"
    assert ramp.states[SURFACE].in_effect
    ramp.look()
    assert ramp.is_over
    assert one.status(ramp).state is State.ABORTED
    assert one.mode == "mesh"
    client.close()


def test_what_is_not_begun_cannot_be_told_anything(world: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one = world()
    assert migrate(one, "pause") == 1
    assert "no ramp of 'shop' has begun" in capsys.readouterr().err
    assert main(["migrate", "status", str(one.plan)]) == 0
    assert "not begun" in capsys.readouterr().out
    assert migrate(one, "pause", "--surface", "shpo") == 1
    assert "did you mean" in capsys.readouterr().err


def test_servers_that_give_no_evidence_are_told_at_the_start(
    world: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    one = world(ComparisonConfig())
    assert main(["migrate", str(one.plan)]) == 1
    assert "compares nothing: start it with --comparison-on true" in capsys.readouterr().err
    one = world(
        ComparisonConfig(on=True, surface_shares=f"{SURFACE}=0", omit="user_key"), surfaces=[SURFACE, "feed"]
    )
    assert main(["migrate", str(one.plan)]) == 1
    told = capsys.readouterr().err
    for part in (
        "compares no call of 'shop'",
        "set comparison.noise_share",
        "set comparison.canary_share",
        "set comparison.keep_requests",
        "leaves user_key out",
        "does not serve 'feed'",
        "holds no snapshot of 'feed'",
    ):
        assert part in told
    assert one.mode == "mesh"
    assert not (one.folder / "ramp.json").exists()


def test_less_to_see_is_noted(world: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one = world(replace(COMPARED, file_age_s=600), pairs=["others"])
    ramp = one.ramp()
    doubtful = ramp.begin("a test").doubtful
    assert any("comparison.key_file" in doubt for doubt in doubtful)
    assert any("comparison.file_age_s" in doubt for doubt in doubtful)
    assert any("name it in pairs" in doubt for doubt in doubtful)
    plan = replace(read_plan(one.plan), mesh=MeshFacts(tower="127.0.0.1:9", retrieval=one.server.address))
    assert [doubt for doubt in check(plan, {}).doubtful if "mesh's" in doubt] == [
        "the mesh's tower at 127.0.0.1:9 does not answer, and the causes that need it stay unknown: mend "
        "[mesh] in the plan, or leave it out"
    ]
    # A fault that would refuse a new ramp is a note for one that goes on.
    one.settings["store"] = "nowhere"
    assert any("holds no snapshot" in doubt for doubt in one.ramp().begin("a test").doubtful)


@pytest.mark.long
def test_a_signal_stops_the_process_and_leaves_the_modes(world: Make) -> None:
    one = world(poll_s=0.05)
    process = subprocess.Popen([*COMMAND, one.plan], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any("start by" in line for line in lines)
    os.kill(process.pid, signal.SIGTERM)
    assert "stopped; the modes stay as they are" in "".join(lines)
    process.stdout.close()
    assert process.wait() == 0
    assert one.mode == "mirror"
