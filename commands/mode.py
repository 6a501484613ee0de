"""`meshfold mode`: shows and sets whether mesh or model answers a surface."""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from meshfold.commands import console

_EPILOG = """\
examples:
  meshfold mode                                         # what is in effect, and the latest changes
  meshfold mode feed mirror --why "first comparison"
  meshfold mode feed canary 5                           # the model answers 5 % of users
  meshfold mode feed serve
  meshfold mode default mirror                          # every surface without a mode of its own
  meshfold mode feed default                            # as the default says again
  meshfold mode kill --why "empty answers"              # the mesh answers everything, at once
  meshfold mode --history 500                           # who changed what, when and why

modes:
  mesh     the mesh answers
  mirror   the mesh answers, the model shadows
  canary   the model answers some users, the mesh the others
  serve    the model answers, the mesh shadows
  only     the model answers; the mesh gets no calls

They are in effect and kept across restarts when the command ends; servers that share the file of modes follow within a
second. A surface that is not served and has no mode is refused, unless --force is given.
"""
# The default operators' address: the port after the callers'.
ADMIN_ADDRESS = "127.0.0.1:50052"
_MODES = ("mesh", "mirror", "canary", "serve", "only", "default")
_KILL = "kill"
_SHOWN = 10
_HISTORY = 100
_COLUMNS = ("surface", "mode", "since", "who", "why")


class _Mode(Protocol):
    @property
    def kind(self) -> Any: ...

    @property
    def percent(self) -> float: ...


class Change(Protocol):
    """A change of a mode. surface: "" for the default. kill: whether the kill switch made it, for all surfaces."""

    @property
    def surface(self) -> str: ...

    @property
    def mode(self) -> _Mode: ...

    @property
    def who(self) -> str: ...

    @property
    def why(self) -> str: ...

    @property
    def unix_ms(self) -> int: ...

    @property
    def kill(self) -> bool: ...


class _Modes(Protocol):
    @property
    def generation(self) -> int: ...

    @property
    def default(self) -> Change: ...

    @property
    def surfaces(self) -> Mapping[str, Change]: ...

    @property
    def history(self) -> Sequence[Change]: ...


class Shown(Protocol):
    """The state of a server's modes."""

    @property
    def mesh(self) -> str: ...

    @property
    def served(self) -> Sequence[str]: ...

    @property
    def modes(self) -> _Modes: ...

    @property
    def trouble(self) -> str: ...


class Client(Protocol):
    """A client of a server in front of a mesh."""

    def show(self, changes: int = 0) -> Shown: ...

    def set(
        self, surface: str, mode: str, percent: float, who: str, why: str, force: bool = False
    ) -> Shown: ...

    def kill(self, who: str, why: str) -> Shown: ...

    def close(self) -> None: ...


def add(subparsers: argparse._SubParsersAction[Any], connect: Callable[[str, float], Client]) -> None:
    """Adds the command. connect: (address, timeout in seconds) -> client."""
    parser = subparsers.add_parser(
        "mode",
        help="show or switch who answers, mesh or model",
        usage="%(prog)s [SURFACE MODE [PERCENT] | kill] [--why TEXT] [--force] [--history [N]] [--json] "
        "[--address HOST:PORT]",
        description="Show or switch who answers, mesh or model, at a server in front of a mesh.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="a surface and its mode, or kill; none shows"
    )
    parser.add_argument("--why", default="", help="kept with the change")
    parser.add_argument("--who", default=who_asks(), help="kept with the change (default: %(default)s)")
    parser.add_argument(
        "--force", action="store_true", help="also a surface that is not served and has no mode"
    )
    parser.add_argument(
        "--history",
        type=int,
        nargs="?",
        const=_HISTORY,
        metavar="N",
        help="show the latest N changes, at most 1000 (default: %(const)s)",
    )
    add_address(parser)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=partial(_run, parser=parser, connect=connect))


def add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        default=ADMIN_ADDRESS,
        help="the server's admin_address, not the callers' (default: %(default)s)",
    )


def _run(
    args: argparse.Namespace, parser: argparse.ArgumentParser, connect: Callable[[str, float], Client]
) -> int:
    ask = _call_of(args, parser)
    client = connect(args.address, args.timeout)
    try:
        shown = ask(client)
    finally:
        client.close()
    if args.json:
        console.print(json.dumps(_json(shown), ensure_ascii=False, indent=1))
    elif args.history is not None:
        _show_history(shown.modes.history, f"the latest changes of {shown.modes.generation}")
    else:
        _show(shown)
    if shown.trouble:
        print(f"meshfold: {shown.trouble}", file=sys.stderr)
    return 0


def _call_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Callable[[Client], Shown]:
    """The call for the words of the command line; exits with a usage error where they are invalid."""
    if args.history is not None:
        if args.words not in ([], ["show"]) or not 0 < args.history <= 1000:
            parser.error("--history shows 1 to 1000 changes, and goes with no other words")
        return lambda client: client.show(args.history)
    match args.words:
        case [] | ["show"]:
            return lambda client: client.show()
        case [word] if word == _KILL:
            return lambda client: client.kill(args.who, args.why)
        case [surface, mode, *rest] if mode in _MODES and len(rest) == (mode == "canary"):
            percent = _percent(rest[0], parser) if rest else 0.0
            name = "" if surface == "default" else surface
            return lambda client: client.set(name, mode, percent, args.who, args.why, args.force)
    return parser.error(
        f"SURFACE and one of {', '.join(_MODES)} expected, canary with a percentage and the others without, "
        f"or {_KILL} alone; got {' '.join(args.words)!r}"
    )


def _percent(text: str, parser: argparse.ArgumentParser) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        parser.error(f"a percentage such as 5 or 0.5 expected, got {text!r}")
    if not 0 <= percent <= 100:
        parser.error(f"a percentage from 0 to 100 expected, got {text!r}")
    return percent


def who_asks() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without a name
        return socket.gethostname()


def _json(shown: Shown) -> dict[str, Any]:
    return {
        "mesh": shown.mesh,
        "served": list(shown.served),
        "trouble": shown.trouble,
        "generation": shown.modes.generation,
        "default": _change_json(shown.modes.default),
        "surfaces": {name: _change_json(own) for name, own in sorted(shown.modes.surfaces.items())},
        "history": [_change_json(change) for change in shown.modes.history],
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "surface": change.surface,
        "mode": str(change.mode.kind),
        "percent": change.mode.percent,
        "who": change.who,
        "why": change.why,
        "unix_ms": change.unix_ms,
        "kill": change.kill,
    }


def _show(shown: Shown) -> None:
    modes = shown.modes
    own = [modes.surfaces[name] for name in sorted(modes.surfaces)]
    console.table(
        _COLUMNS, [_row(change) for change in (modes.default, *own)], f"in front of the mesh at {shown.mesh}"
    )
    following = [name for name in shown.served if name not in modes.surfaces]
    console.print(f"served by the model, and as the default says: {', '.join(following) or 'none'}")
    if modes.history:
        console.print()
        _show_history(modes.history[:_SHOWN], f"the latest of {modes.generation} changes")


def _show_history(changes: Sequence[Change], title: str) -> None:
    console.table(_COLUMNS, [_row(change) for change in changes], title)


def _row(change: Change) -> list[str]:
    since = ""
    if change.unix_ms:
        since = datetime.fromtimestamp(change.unix_ms / 1000, UTC).isoformat(" ", "seconds")
    why = f"kill: {change.why}" if change.kill else change.why
    return [change.surface or "(default)", str(change.mode), since, change.who, why]
