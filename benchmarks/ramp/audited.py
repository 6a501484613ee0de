"""Whether modes followed decisions that were in the audit log before them, with figures that allow them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from benchmarks.ramp.processes import READY_S
from benchmarks.waiting import wait_until
from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient, Shown
from meshfold.compat.migration.modes import Change
from meshfold.compat.ramp.audit_log import Action, AuditEntry, AuditLog, By, tag_of
from meshfold.compat.ramp.servers import WHO
from meshfold.compat.ramp.steps import mode_of, share_of


def by_ramps(operators: str) -> list[Change]:
    """The latest 1,000 changes of modes by a ramp, oldest first. Waits until the server answers."""
    shown: list[Shown] = []

    def is_shown() -> bool:
        with closing(MigrationClient(operators)) as client, suppress(CallFailed):
            shown.append(client.show(1000))
        return bool(shown)

    wait_until(is_shown, "the server does not show its modes", READY_S)
    return [change for change in reversed(shown[0].modes.history) if change.who == WHO]


def ahead_of_evidence(changes: Sequence[Change], log: Path) -> list[str]:
    """A line for each change of a mode that its decision does not allow, or that no decision came before."""
    entries = {entry.number: entry for entry in AuditLog(log).latest(100_000)}
    wrong = []
    for change in changes:
        number = change.why.removeprefix(tag_of(next(iter(entries.values())).ramp)).partition(":")[0]
        entry = entries.get(int(number)) if number.isdigit() else None
        if entry is None:
            wrong.append(f"{change.mode} follows no decision in the audit log: {change.why}")
        elif entry.after != str(change.mode) or entry.unix_ms > change.unix_ms:
            wrong.append(f"{change.mode} is not what decision {entry.number} says, or came before it")
        elif why := unfounded(entry):
            wrong.append(f"decision {entry.number} to {entry.after} {why}")
    return wrong


def unfounded(entry: AuditEntry) -> str:
    """Why the figures of a decision do not allow it; "" where they do."""
    rises = share_of(mode_of(entry.after)) > share_of(mode_of(entry.before))
    if not rises or entry.by is By.OPERATOR:
        return ""
    if entry.action is not Action.PROMOTE or entry.verdict is None:
        return "rises without a verdict"
    if entry.verdict["decision"] != "yes" or not entry.verdict["pairs"]:
        return f"rises though the gate says {entry.verdict['decision']} of {entry.verdict['pairs']} pairs"
    return ""
