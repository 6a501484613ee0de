"""Logs the differences between two states of the modes."""

from __future__ import annotations

import logging

from meshfold.compat.migration.modes import Change, Modes

_log = logging.getLogger(__name__)


def log_changes(before: Modes, after: Modes) -> bool:
    """Logs a line for each changed mode, whichever server changed it; returns whether a kill is among them."""
    if after.generation < before.generation:
        _log.warning(
            "the modes went back from generation %d to %d, as a copy that was put back has it; it is in effect",
            before.generation,
            after.generation,
        )
    killed = after.default.kill and after.default != before.default
    if killed:
        change = after.default
        _log.info(
            "kill: the mesh answers every surface, generation %d, by %r: %r",
            after.generation,
            change.who,
            change.why,
        )
    elif after.default != before.default:
        _log_change("the default", before.default, after.default, after)
    for name in sorted({*before.surfaces, *after.surfaces}):
        old, new = before.surfaces.get(name), after.surfaces.get(name)
        if new == old or (killed and new is not None and new.kill):
            continue
        _log_change(f"{name!r}", old or before.default, new or _dropped(name, after), after)
    return killed


def _log_change(what: str, old: Change, new: Change, after: Modes) -> None:
    _log.info(
        "the mode of %s: %s -> %s, generation %d, by %r: %r",
        what,
        old.mode,
        new.mode,
        after.generation,
        new.who,
        new.why,
    )


def _dropped(surface: str, after: Modes) -> Change:
    """The change by which a surface follows the default again."""
    for change in after.history:
        if change.surface == surface:
            return change
    return Change(surface, after.default.mode)
