"""`meshfold migrate`: moves surfaces from the mesh to the model, step by step, by the gate's verdicts."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.commands.mode import who_asks
from meshfold.model.errors import InvalidConfig, NotDurable

if TYPE_CHECKING:
    from meshfold.compat.ramp.audit_log import AuditEntry
    from meshfold.compat.ramp.operators import Operators
    from meshfold.compat.ramp.plan import Plan
    from meshfold.compat.ramp.ramp_state import RampState, SurfaceState

_EPILOG = """\
examples:
  meshfold migrate --example > plan.toml            # a plan to begin with
  meshfold migrate plan.toml                        # runs until each surface is in serve or has fallen back
  meshfold migrate status plan.toml                 # where each surface stands, and why
  meshfold migrate pause plan.toml --why "incident"
  meshfold migrate resume plan.toml
  meshfold migrate override plan.toml --surface feed --to "canary 25" --why "looked at by hand"
  meshfold migrate abort plan.toml --why "another time"

actions:
  status    shows steps, reasons and the latest decisions
  pause     the ramp changes nothing, neither up nor down
  resume    a paused, fallen back or aborted ramp goes on from the modes that are in effect
  override  the ramp goes to the step --to, whatever the gate says
  abort     the mesh answers, and the ramp is over

A ramp promotes if the gate says yes and the hold time is over. It falls back to mirror if the gate says no, and holds
while there is not enough evidence. A mode that is switched by hand (`meshfold mode`, kill above all) takes precedence:
the ramp pauses and names the operator. Decisions and their figures are in the audit log before a mode follows them. The
process may be killed and started again at any time.

Exit status: 0 in serve, or stopped by a signal, which leaves the modes as they are; 1 an error; 3 a surface has fallen
back or was aborted.
"""
_ACTIONS = ("run", "status", "pause", "resume", "override", "abort")
_STOPPED = 3
_SHOWN = 10


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "migrate",
        help="move surfaces from the mesh to the model, by evidence",
        usage="%(prog)s [status | pause | resume | override | abort] PLAN [--surface NAME] [--to STEP] [--why TEXT] "
        "[--json]\n       %(prog)s --example",
        description="Move surfaces from the mesh to the model, step by step, by the gate's verdicts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="an action, and the plan's file")
    parser.add_argument(
        "--surface", default="", metavar="NAME", help="the only surface (default: all of the plan)"
    )
    parser.add_argument("--to", default="", metavar="STEP", help='with override: a step such as "canary 25"')
    parser.add_argument("--why", default="", help="kept with the decision")
    parser.add_argument(
        "--who", default=who_asks(), help="name to keep with the decision (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--example", action="store_true", help="print a plan to begin with")
    parser.set_defaults(run=partial(_run, parser=parser))


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from meshfold.compat.ramp.plan import EXAMPLE, read_plan

    if args.example:
        console.print(EXAMPLE.rstrip())
        return 0
    match args.words:
        case [action, file] if action in _ACTIONS:
            plan = read_plan(Path(file))
        case [file] if file not in _ACTIONS:
            action, plan = "run", read_plan(Path(file))
        case _:
            parser.error(
                f"one of {', '.join(_ACTIONS)} and the file of a plan expected, got {' '.join(args.words)!r}; "
                "--example prints a plan"
            )
    if bool(args.to) != (action == "override"):
        parser.error("--to names the step of an override, and goes with it alone")
    surfaces = _surfaces(plan, args.surface)
    match action:
        case "run":
            return _follow(plan, args)
        case "status":
            return _status(plan, surfaces, args.json)
    return _operate(plan, surfaces, action, args)


def _surfaces(plan: Plan, named: str) -> Sequence[str]:
    from meshfold.model.schema import nearest

    if named and named not in plan.surfaces:
        raise InvalidConfig(f"{named!r} is not among the plan's surfaces{nearest(named, plan.surfaces)}")
    return [named] if named else plan.surfaces


def _follow(plan: Plan, args: argparse.Namespace) -> int:
    from meshfold.compat.ramp.ramp import Ramp, alone
    from meshfold.compat.ramp.status import State

    stop = threading.Event()
    ramp = Ramp(plan)
    try:
        with alone(plan.log), _stopped_by_signals(stop):
            for doubt in ramp.begin(args.who).doubtful:
                console.print(f"note: {doubt}")
            ramp.run(stop, _printer(args.json))
        states = ramp.states
        over = ramp.is_over
    finally:
        ramp.close()
    if not over:
        if not args.json:
            console.print("stopped; the modes stay as they are, and the same command goes on from here")
        return 0
    ended = [own for own in states.values() if own.status.state is not State.DONE]
    for own in ended:
        if not args.json:
            console.print(
                f"{own.status.surface}: {own.status.state.value}; `meshfold migrate resume {plan.file}`, and this "
                "command again, begin anew"
            )
    return _STOPPED if ended else 0


def _printer(as_json: bool) -> Callable[[SurfaceState], None]:
    """A function that prints each decision, or each state as JSON."""
    shown: dict[str, int] = {}

    def show(own: SurfaceState) -> None:
        if as_json:
            console.print(json.dumps(own.status.to_json(), ensure_ascii=False))
        elif shown.get(own.status.surface) != own.decision.number:
            shown[own.status.surface] = own.decision.number
            console.print(_line(own.decision))

    return show


def _line(entry: AuditEntry) -> str:
    """A decision as one line."""
    by = f" by {entry.who}" if entry.who else ""
    way = f"{entry.before} -> {entry.after}" if entry.before != entry.after else entry.after
    why = f": {entry.why}" if entry.why else ""
    return f"{_moment(entry.unix_ms)} {entry.surface}: {entry.action.value}{by}, {way}{why}"


def _operate(plan: Plan, surfaces: Sequence[str], action: str, args: argparse.Namespace) -> int:
    from meshfold.compat.ramp.operators import Operators
    from meshfold.compat.ramp.ramp import is_followed

    operators = Operators(plan, args.who, args.why)
    states = []
    troubles: list[str] = []
    for surface in surfaces:
        own, waiting = _decided(operators, action, surface, args.to)
        states.append(own)
        troubles += waiting
    if args.json:
        console.print(json.dumps([own.status.to_json() for own in states], ensure_ascii=False, indent=1))
    else:
        for own in states:
            console.print(_line(own.decision))
        if action in ("resume", "override") and not is_followed(plan.log):
            console.print(f"nothing follows the plan now: `meshfold migrate {plan.file}` goes on from here")
    if troubles:
        further = (
            "the process that follows the plan goes on trying"
            if is_followed(plan.log)
            else f"`meshfold migrate {plan.file}` goes on trying"
        )
        raise NotDurable(f"decided, but not in effect on all servers yet: {'; '.join(troubles)}; {further}")
    return 0


def _decided(
    operators: Operators, action: str, surface: str, to: str
) -> tuple[SurfaceState, tuple[str, ...]]:
    match action:
        case "pause":
            return operators.pause(surface), ()
        case "resume":
            return operators.resume(surface), ()
        case "override":
            return operators.override(surface, to), ()
    return operators.abort(surface)


def _status(plan: Plan, surfaces: Sequence[str], as_json: bool) -> int:
    from meshfold.compat.ramp.ramp import is_followed
    from meshfold.compat.ramp.ramp_state import RampStore

    store = RampStore(plan.state, plan.log)
    state = store.read()
    try:
        entries = store.log.latest(_SHOWN)
    except OSError as error:
        raise InvalidConfig(f"the audit log {plan.log} cannot be read: {error.strerror}") from None
    running = is_followed(plan.log)
    if as_json:
        own = {} if state is None else state.surfaces
        document = {
            "running": running,
            "surfaces": [own[surface].status.to_json() for surface in surfaces if surface in own],
            "decisions": [entry.to_json() for entry in entries],
        }
        console.print(json.dumps(document, ensure_ascii=False, indent=1))
        return 0
    _show(plan, surfaces, state, running)
    if entries:
        console.print()
        columns = ("when", "surface", "decision", "from", "to", "who", "why")
        console.table(columns, [_row(entry) for entry in entries], "the latest decisions")
    return 0


def _show(plan: Plan, surfaces: Sequence[str], state: RampState | None, running: bool) -> None:
    rows = []
    for surface in surfaces:
        own = None if state is None else state.surfaces.get(surface)
        if own is None:
            rows.append([surface, "not begun", "", "", "", "", "", ""])
            continue
        status, verdict = own.status, own.status.verdict
        mode = status.mode if own.in_effect else f"{status.mode} (not in effect yet)"
        rows.append(
            [
                surface,
                status.state.value,
                f"{status.step + 1} of {len(status.steps)}",
                mode,
                _moment(status.since_unix_ms),
                _moment(status.hold_until_unix_ms),
                f"{verdict.decision.value}, {verdict.pairs} pairs" if verdict else "",
                status.reason,
            ]
        )
    columns = ("surface", "state", "step", "mode", "since", "holds until", "gate", "why")
    followed = "a process follows this plan" if running else "no process follows this plan on this machine"
    console.table(columns, rows, f"{plan.file}: {followed}")


def _row(entry: AuditEntry) -> list[str]:
    return [
        _moment(entry.unix_ms),
        entry.surface,
        entry.action.value,
        entry.before,
        entry.after,
        entry.who or entry.by.value,
        entry.why,
    ]


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(" ", "seconds") if unix_ms else ""


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGINT end the ramp after the current look."""
    usual: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            usual[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
