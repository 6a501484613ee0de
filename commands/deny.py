"""`meshfold deny`: excludes items from all answers, in every version."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from meshfold.commands import console
from meshfold.commands.mode import add_address, who_asks
from meshfold.model.errors import InvalidData

_EPILOG = """\
examples:
  meshfold deny 4711 --why "court order 12"            # on every surface
  meshfold deny 4711 4712 --surface feed
  meshfold deny --file ids.txt                         # an id a line
  meshfold deny --list                                 # what is denied, and what no catalog holds any more
  meshfold deny --undo 4711 --why "lifted"
  meshfold deny --history 50

When the command ends, no request that comes from then on is answered with the items, on this server; servers that share
the state follow within 0.2 s. One that was being computed may still be answered, for at most a second. Denied items are
as excluded: answers have as many results as before. It lasts across restarts and new versions, until --undo.
Answers of a mesh that the server stands in front of are passed on as they are.
"""
_COLUMNS = ("item", "surface", "held by", "since", "who", "why")
_HISTORY = 100
# Most ids of one call.
_MOST_IDS = 10_000
_MOST_FILE_BYTES = 64 << 20


class Client(Protocol):
    """A connection to a server's operators' address; answers are messages of meshfold.v1.VersionService."""

    def denied(self, changes: int = 0) -> Any: ...

    def deny(self, surface: str, item_ids: Sequence[str], who: str, why: str, force: bool = False) -> Any: ...

    def undeny(self, surface: str, item_ids: Sequence[str], who: str, why: str) -> Any: ...

    def close(self) -> None: ...


def add(subparsers: argparse._SubParsersAction[Any], connect: Callable[[str, float], Client]) -> None:
    """Adds the command. connect: (address, timeout in seconds) -> client."""
    parser = subparsers.add_parser(
        "deny",
        help="take items down, whatever version is served",
        usage="%(prog)s [ID ... | --file FILE | --list | --history [N]] [--undo] [--surface SURFACE] [--why TEXT]"
        " [--force] [--json] [--address HOST:PORT]",
        description="Take items down at a server, whatever version is served.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="item ids, integers or strings; after -- if they begin so"
    )
    parser.add_argument("--file", type=Path, metavar="FILE", help="of more ids, one a line")
    parser.add_argument("--surface", default="", help="only there (default: every surface)")
    parser.add_argument("--undo", action="store_true", help="the items may be answered again")
    parser.add_argument("--list", action="store_true", help="show the denied items")
    parser.add_argument("--why", default="", help="kept with the change")
    parser.add_argument("--who", default=who_asks(), help="kept with the change (default: %(default)s)")
    parser.add_argument(
        "--force", action="store_true", help="also for a surface that the store has no version of"
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
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=partial(_run, parser=parser, connect=connect))


def _run(
    args: argparse.Namespace, parser: argparse.ArgumentParser, connect: Callable[[str, float], Client]
) -> int:
    ids = [*args.ids, *_read(args.file)]
    shows = args.list or args.history is not None
    if shows and (ids or args.undo or args.surface or (args.list and args.history is not None)):
        parser.error("--list and --history go alone, without ids")
    if args.history is not None and not 0 < args.history <= 1000:
        parser.error("--history shows 1 to 1000 changes")
    if not shows and not ids:
        parser.error("ids expected, or --list")
    client = connect(args.address, args.timeout)
    try:
        if shows:
            answers = [client.denied(args.history or 0)]
        else:
            answers = [_change(client, args, ids[i : i + _MOST_IDS]) for i in range(0, len(ids), _MOST_IDS)]
    finally:
        client.close()
    items = [item for answer in answers for item in answer.items]
    last = answers[-1]
    if args.json:
        console.print(json.dumps(_json(items, last), ensure_ascii=False, indent=1))
    elif args.history is not None:
        _show_history(last)
    elif args.list:
        _show(items)
    else:
        _tell(items, last, args)
    if last.trouble:
        print(f"meshfold: {last.trouble}", file=sys.stderr)
    return 0


def _change(client: Client, args: argparse.Namespace, ids: Sequence[str]) -> Any:
    if args.undo:
        return client.undeny(args.surface, ids, args.who, args.why)
    return client.deny(args.surface, ids, args.who, args.why, args.force)


def _read(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        if file.stat().st_size > _MOST_FILE_BYTES:
            raise InvalidData(f"{file} has more than {_MOST_FILE_BYTES} bytes; give ids in several files")
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"ids cannot be read from {file}: {error}") from None
    return [line.rstrip("\r") for line in lines if line.rstrip("\r")]


def _tell(items: Sequence[Any], last: Any, args: argparse.Namespace) -> None:
    where = f"on surface {args.surface}" if args.surface else "on every surface"
    done = "may be answered again" if args.undo else "denied"
    console.print(f"{len(items)} item{'s' * (len(items) != 1)} {done} {where}; {last.total} denied in all")
    unknown = [item.item_id for item in items if not item.held_by]
    if unknown and not args.undo:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        console.print(
            f"no served catalog holds {', '.join(unknown[:5])}{more}; it stays denied if one ever does"
        )
    if last.passes_mesh_answers and not args.undo:
        console.print(
            "answers that the mesh gives are passed on as they are, with denied items; `meshfold mode SURFACE only`"
            " leaves a surface to the model"
        )


def _show(items: Sequence[Any]) -> None:
    rows = [
        (
            item.item_id,
            item.surface or "(every)",
            ", ".join(item.held_by) or "none: no longer needed",
            _time(item.unix_ms),
            item.who,
            item.why,
        )
        for item in items
    ]
    console.table(_COLUMNS, rows, f"{len(rows)} denied items")


def _show_history(last: Any) -> None:
    rows = []
    for change in last.history:
        ids = ", ".join(change.item_ids[:5]) + (
            f" and {len(change.item_ids) - 5} more" * (len(change.item_ids) > 5)
        )
        surface = change.surface or "(every)"
        rows.append((change.action, ids, surface, _time(change.unix_ms), change.who, change.why))
    console.table(("change", "items", "surface", "when", "who", "why"), rows, "the latest changes")


def _json(items: Sequence[Any], last: Any) -> dict[str, Any]:
    names = ("item_id", "surface", "who", "why", "unix_ms")
    changes = ("action", "surface", "who", "why", "unix_ms")
    return {
        "items": [
            {name: getattr(item, name) for name in names} | {"held_by": list(item.held_by)} for item in items
        ],
        "total": last.total,
        "history": [
            {name: getattr(change, name) for name in changes} | {"item_ids": list(change.item_ids)}
            for change in last.history
        ],
        "trouble": last.trouble,
        "passes_mesh_answers": last.passes_mesh_answers,
    }


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(" ", "seconds") if unix_ms else ""
