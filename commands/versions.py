"""`meshfold versions`: shows and changes the active version of each surface."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from meshfold.commands import console
from meshfold.commands.mode import add_address, who_asks

_EPILOG = """\
examples:
  meshfold versions                                    # what the store holds, and what is served
  meshfold versions load feed 3f9a                     # verified and warmed beside the active one
  meshfold versions activate feed 3f9a --why "the new ranking"
  meshfold versions rollback feed --why "empty answers"   # the version before, at once
  meshfold versions follow feed                        # ends the pin: the newest is served again
  meshfold versions delete feed 3f9a
  meshfold versions delete --keep 5 --days 30 --dry-run   # beyond the newest 5 and older than 30 days, all surfaces
  meshfold versions --history 50                       # who changed what, when and why

VERSION is a folder's name, or at least 4 digits of the version's hash. What is activated or rolled back to is pinned:
it is served until `follow`, whatever is published, across restarts, at every server of the same store. The active, the
pinned, the previous and a loaded version are never deleted.
"""
_COLUMNS = ("surface", "version", "published", "items", "disk MB", "memory MB", "state")
_USAGE = (
    "%(prog)s [list [SURFACE] | load SURFACE VERSION | unload SURFACE | activate SURFACE VERSION |"
    " rollback SURFACE [VERSION] | follow SURFACE | delete SURFACE VERSION ... |"
    " delete [SURFACE] [--keep N] [--days N]]"
    " [--dry-run] [--why TEXT] [--history [N]] [--json] [--address HOST:PORT]"
)
_HISTORY = 100


class Client(Protocol):
    """A connection to a server's operators' address; answers are messages of meshfold.v1.VersionService."""

    def show(self, surface: str = "", changes: int = 0) -> Any: ...

    def load(self, surface: str, version: str) -> Any: ...

    def unload(self, surface: str) -> Any: ...

    def activate(self, surface: str, version: str, who: str, why: str) -> Any: ...

    def roll_back(self, surface: str, version: str, who: str, why: str) -> Any: ...

    def follow(self, surface: str, who: str, why: str) -> Any: ...

    def delete(
        self, surface: str, versions: Sequence[str], keep: int, days: float, who: str, why: str, dry_run: bool
    ) -> Any: ...

    def close(self) -> None: ...


def add(subparsers: argparse._SubParsersAction[Any], connect: Callable[[str, float], Client]) -> None:
    """Adds the command. connect: (address, timeout in seconds) -> client."""
    parser = subparsers.add_parser(
        "versions",
        help="show, activate, roll back or delete versions",
        usage=_USAGE,
        description="Show, activate, roll back or delete versions at a server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="an action, a surface, versions; without words all versions are shown",
    )
    parser.add_argument(
        "--keep", type=int, default=0, metavar="N", help="with delete: newest versions that stay"
    )
    parser.add_argument(
        "--days", type=float, default=0.0, metavar="N", help="with delete: younger versions stay"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with delete: only list the versions to delete"
    )
    parser.add_argument("--why", default="", help="kept with the change")
    parser.add_argument("--who", default=who_asks(), help="kept with the change (default: %(default)s)")
    parser.add_argument(
        "--history",
        type=int,
        nargs="?",
        const=_HISTORY,
        metavar="N",
        help="show the latest N changes, at most 1000 (default: %(const)s)",
    )
    add_address(parser)
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="default: %(default)g"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=partial(_run, parser=parser, connect=connect))


def _run(
    args: argparse.Namespace, parser: argparse.ArgumentParser, connect: Callable[[str, float], Client]
) -> int:
    ask = _call_of(args, parser)
    client = connect(args.address, args.timeout)
    start_s = time.monotonic()
    try:
        answer = ask(client)
    finally:
        client.close()
    if args.words[:1] == ["delete"]:
        _show_deleted(answer, args.dry_run, args.json)
        return 0
    if args.json:
        console.print(json.dumps(_json(answer), ensure_ascii=False, indent=1))
    elif args.history is not None:
        _show_history(answer)
    else:
        _show(answer)
        if args.words[:1] and args.words[0] not in ("list", "unload", "follow"):
            console.print(f"{args.words[0]}: done in {time.monotonic() - start_s:.2f} s")
    if answer.trouble:
        print(f"meshfold: {answer.trouble}", file=sys.stderr)
    return 0


def _call_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Callable[[Client], Any]:
    """The call for the words of the command line; exits with a usage error where they are invalid."""
    who, why = args.who, args.why
    if (args.keep or args.days or args.dry_run) and args.words[:1] != ["delete"]:
        parser.error("--keep, --days and --dry-run go with delete")
    if args.history is not None:
        if args.words not in ([], ["list"]) or not 0 < args.history <= 1000:
            parser.error("--history shows 1 to 1000 changes, and goes with no other words")
        return lambda client: client.show("", args.history)
    match args.words:
        case [] | ["list"]:
            return lambda client: client.show()
        case ["list", surface]:
            return lambda client: client.show(surface)
        case ["load", surface, version]:
            return lambda client: client.load(surface, version)
        case ["unload", surface]:
            return lambda client: client.unload(surface)
        case ["activate", surface, version]:
            return lambda client: client.activate(surface, version, who, why)
        case ["rollback", surface]:
            return lambda client: client.roll_back(surface, "", who, why)
        case ["rollback", surface, version]:
            return lambda client: client.roll_back(surface, version, who, why)
        case ["follow", surface]:
            return lambda client: client.follow(surface, who, why)
        case ["delete", *rest] if len(rest) <= 1 and (args.keep > 0 or args.days > 0):
            surface = rest[0] if rest else ""
            return lambda client: client.delete(surface, (), args.keep, args.days, who, why, args.dry_run)
        case ["delete", surface, *versions] if versions and not args.keep and not args.days:
            return lambda client: client.delete(surface, versions, 0, 0.0, who, why, args.dry_run)
        case ["delete", *_]:
            parser.error(
                "delete takes a surface and its versions, or --keep N or --days N with at most a surface"
            )
    return parser.error(
        "list, load, unload, activate, rollback, follow or delete expected, each with a surface (load and activate with"
        f" a version, too); got {' '.join(args.words)!r}"
    )


def _show(answer: Any) -> None:
    rows = []
    for surface in answer.surfaces:
        for version in surface.versions:
            rows.append(
                (
                    surface.surface,
                    version.folder,
                    _time(version.published_unix_ms),
                    version.items,
                    round(version.disk_bytes / 1e6),
                    round(version.memory_bytes / 1e6),
                    _state(version),
                )
            )
    console.table(_COLUMNS, rows)
    for surface in answer.surfaces:
        if surface.HasField("pin"):
            pin = surface.pin
            by = ", ".join(text for text in (pin.who, pin.why) if text)
            console.print(
                f"{surface.surface} is pinned to {pin.folder} since {_time(pin.unix_ms)} ({pin.action}: {by});"
                f" `meshfold versions follow {surface.surface}` ends it"
            )


def _state(version: Any) -> str:
    words = [name for name in ("active", "previous", "pinned", "loaded") if getattr(version, name)]
    return ", ".join(words + ([f"refused: {version.trouble}"] if version.trouble else []))


def _show_history(answer: Any) -> None:
    columns = ("surface", "change", "version", "when", "who", "why")
    rows = [(c.surface, c.action, c.folder, _time(c.unix_ms), c.who, c.why) for c in answer.history]
    console.table(columns, rows, "the latest changes")


def _show_deleted(answer: Any, is_dry: bool, as_json: bool) -> None:
    rows = [(v.surface, v.folder, round(v.disk_bytes / 1e6)) for v in answer.versions]
    if as_json:
        deleted = [
            {"surface": v.surface, "folder": v.folder, "disk_bytes": v.disk_bytes} for v in answer.versions
        ]
        console.print(json.dumps({"deleted": deleted, "dry_run": is_dry}, indent=1))
        return
    if rows:
        console.table(("surface", "version", "disk MB"), rows)
    count = f"{len(rows)} version{'s' * (len(rows) != 1)}"
    console.print(f"{count} would be deleted" if is_dry else f"{count} deleted")


def _json(answer: Any) -> dict[str, Any]:
    return {
        "surfaces": [
            {
                "surface": surface.surface,
                "pin": _change_json(surface.pin) if surface.HasField("pin") else None,
                "versions": [_version_json(version) for version in surface.versions],
            }
            for surface in answer.surfaces
        ],
        "history": [_change_json(change) for change in answer.history],
        "trouble": answer.trouble,
    }


def _version_json(version: Any) -> dict[str, Any]:
    names = ("folder", "version", "published_unix_ms", "items", "disk_bytes", "memory_bytes")
    states = ("active", "previous", "pinned", "loaded", "trouble")
    return {name: getattr(version, name) for name in (*names, *states)}


def _change_json(change: Any) -> dict[str, Any]:
    return {name: getattr(change, name) for name in ("surface", "folder", "action", "who", "why", "unix_ms")}


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(" ", "seconds")
