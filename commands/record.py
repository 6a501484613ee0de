"""`meshfold record`: records requests and answers at a server in front of a mesh."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from meshfold.commands import console
from meshfold.commands.mode import add_address, who_asks

_EPILOG = """\
examples:
  meshfold record                                   # whether it is on, and what there is
  meshfold record start --why "requests for tuning"
  meshfold record stop                              # everything recorded is on the disk when it ends
  meshfold record read .meshfold/recorded           # who answered how often, and how fast
  meshfold record read .meshfold/recorded --requests requests.bin   # for `make load REQUESTS=requests.bin`

Files hold length-prefixed meshfold.v1.Recorded messages, user ids and request ids hashed. The server's settings under
`recording` say where, how much, and what is personal.
"""


class State(Protocol):
    @property
    def on(self) -> bool: ...

    @property
    def folder(self) -> Path: ...

    @property
    def who(self) -> str: ...

    @property
    def why(self) -> str: ...

    @property
    def since_unix_ms(self) -> int: ...

    @property
    def written(self) -> int: ...

    @property
    def dropped(self) -> int: ...

    @property
    def files(self) -> int: ...

    @property
    def bytes(self) -> int: ...


class Client(Protocol):
    """A client of a server in front of a mesh."""

    def show(self) -> State: ...

    def start(self, who: str, why: str) -> State: ...

    def stop(self) -> State: ...

    def close(self) -> None: ...


class Group(Protocol):
    """Records with all attributes but their times in common."""

    @property
    def surface(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def side(self) -> str: ...

    @property
    def shadow(self) -> bool: ...

    @property
    def fallback(self) -> str: ...

    @property
    def code(self) -> int: ...

    @property
    def took_s(self) -> list[float]: ...


def add(
    subparsers: argparse._SubParsersAction[Any],
    connect: Callable[[str, float], Client],
    groups: Callable[[Path], Sequence[Group]],
    write_requests: Callable[[Path, Path], int],
) -> None:
    """Adds the command. connect: (address, timeout in seconds) -> client. groups, write_requests: read a folder or file
    of records."""
    parser = subparsers.add_parser(
        "record",
        help="record requests and answers",
        usage="%(prog)s [start | stop | read FOLDER] [--why TEXT] [--json] [--requests FILE] [--address HOST:PORT]",
        description="Record requests and answers at a server in front of a mesh.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="start, stop, or read and a folder; none shows"
    )
    parser.add_argument("--why", default="", help="kept with a start")
    parser.add_argument("--who", default=who_asks(), help="kept with a start (default: %(default)s)")
    parser.add_argument(
        "--requests", type=Path, metavar="FILE", help="with read: write the requests for replay"
    )
    add_address(parser)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    run = partial(_run, parser=parser, connect=connect, groups=groups, write_requests=write_requests)
    parser.set_defaults(run=run)


def _run(
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    connect: Callable[[str, float], Client],
    groups: Callable[[Path], Sequence[Group]],
    write_requests: Callable[[Path, Path], int],
) -> int:
    match args.words:
        case ["read", place]:
            if args.requests is not None:
                written = write_requests(Path(place), args.requests)
                console.print(f"{written} requests in {args.requests}")
            else:
                _show_groups(groups(Path(place)), args.json)
            return 0
        case [] | ["show"]:
            ask: Callable[[Client], State] = lambda client: client.show()  # noqa: E731
        case ["start"]:
            ask = lambda client: client.start(args.who, args.why)  # noqa: E731
        case ["stop"]:
            ask = lambda client: client.stop()  # noqa: E731
        case _:
            parser.error(f"start, stop, or read and a folder expected, got {' '.join(args.words)!r}")
    client = connect(args.address, args.timeout)
    try:
        state = ask(client)
    finally:
        client.close()
    _show_state(state, args.json)
    return 0


def _show_state(state: State, as_json: bool) -> None:
    told = {
        "on": state.on,
        "folder": str(state.folder),
        "who": state.who,
        "why": state.why,
        "since_unix_ms": state.since_unix_ms,
        "written": state.written,
        "dropped": state.dropped,
        "files": state.files,
        "bytes": state.bytes,
    }
    if as_json:
        console.print(json.dumps(told, ensure_ascii=False, indent=1))
        return
    since = ""
    if state.on and state.since_unix_ms:
        since = f" since {datetime.fromtimestamp(state.since_unix_ms / 1000, UTC).isoformat(' ', 'seconds')}"
        since += "".join(f", {text}" for text in (state.who, state.why) if text)
    console.print(f"recording is {'on' if state.on else 'off'}{since}")
    console.print(
        f"{state.written} records written and {state.dropped} dropped since the server started; "
        f"{state.files} files of {state.bytes / 1e6:.1f} MB in {state.folder}"
    )


def _show_groups(found: Sequence[Group], as_json: bool) -> None:
    columns = ("surface", "mode", "side", "as", "fallback", "status", "records", "p50 ms", "p99 ms")
    rows = []
    for group in found:
        p50_ms, p99_ms = np.percentile(np.array(group.took_s) * 1000, (50, 99)).tolist()
        role = "shadow" if group.shadow else "answer"
        fixed = (group.surface, group.mode, group.side, role, group.fallback, group.code)
        rows.append((*fixed, len(group.took_s), round(p50_ms, 3), round(p99_ms, 3)))
    if as_json:
        console.print(
            json.dumps([dict(zip(columns, row, strict=True)) for row in rows], ensure_ascii=False, indent=1)
        )
    else:
        console.table(columns, rows)
