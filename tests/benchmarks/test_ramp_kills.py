"""The ramp's process and the server's are killed while callers ask; what is ahead of the evidence is found."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshfold.compat.ramp.audit_log import Action, AuditEntry, By

ROOT = Path(__file__).parents[2]


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.ramp.audited")


@pytest.mark.long
def test_modes_are_never_ahead_of_the_evidence(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.ramp.kills", "--kills", "8", "--work", str(tmp_path)]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    word, _, told = run.stdout.splitlines()[-1].partition(" ")
    row = json.loads(told)
    assert word == "BENCH"
    assert (row["ahead"], row["failed"], row["kills"]) == (0, 0, 8)
    assert row["mode_changes"] > 0
    assert row["requests"] > 100


def entry(action: Action, verdict: dict[str, Any] | None, by: By = By.GATE) -> AuditEntry:
    return AuditEntry(1, "r", 0, "shop", 1, action, "mirror", "canary 5 %", by, "", "", verdict)


@pytest.mark.parametrize(
    ("given", "is_allowed"),
    [
        (entry(Action.PROMOTE, {"decision": "yes", "pairs": 100}), True),
        (entry(Action.PROMOTE, {"decision": "not_enough", "pairs": 100}), False),
        (entry(Action.PROMOTE, {"decision": "yes", "pairs": 0}), False),
        (entry(Action.PROMOTE, None), False),
        (entry(Action.START, None), False),
        (entry(Action.OVERRIDE, None, By.OPERATOR), True),
    ],
)
def test_a_rise_without_figures_is_found(audited: Any, given: AuditEntry, is_allowed: bool) -> None:
    assert (audited.unfounded(given) == "") is is_allowed
