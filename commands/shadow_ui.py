"""`meshfold shadow ui`: shows the live page of files to a browser on this machine."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from meshfold.commands import console
from meshfold.commands.shadow_words import add_store
from meshfold.model.errors import InvalidConfig, InvalidData

_PORT = 9465
_MOST_PAIRS = 1_000_000
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EPILOG = """\
R is what `meshfold shadow compare` made, or a folder of pairs, such as one that a server compares into. The page reads
it again where its files change. It answers this machine alone, changes nothing, and runs until Ctrl-C.

A server with --metrics-address shows the same page of its own traffic, under /shadow.

examples:
  meshfold shadow ui compared
  meshfold shadow ui .meshfold/pairs --store .meshfold/store
"""


def add(actions: argparse._SubParsersAction[Any]) -> None:
    parser = actions.add_parser(
        "ui",
        help="show a comparison in a browser",
        description="Show a comparison in a browser, up to date as its files grow.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="R", help="a comparison's folder, or one of pairs")
    add_store(parser)
    parser.add_argument(
        "--port", type=int, default=_PORT, metavar="N", help="of 127.0.0.1; 0 for any (default: %(default)s)"
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=20_000,
        metavar="N",
        help="the newest pairs, of which figures are (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from meshfold.compat.live_page.file_server import FileServer
    from meshfold.compat.live_page.job import Job
    from meshfold.compat.shadow.pair_files import files_of
    from meshfold.model.store import Store
    from meshfold.service.extras import need

    if not 0 <= args.port <= 65_535:
        raise InvalidConfig(f"--port must be 0 to 65535, got {args.port}")
    if not 1 <= args.pairs <= _MOST_PAIRS:
        raise InvalidConfig(f"--pairs must be 1 to {_MOST_PAIRS}, got {args.pairs}")
    need("shadow", "the page")
    files_of(args.folder)
    if args.store is not None and not Store(args.store).surfaces():
        raise InvalidData(f"{args.store} holds no snapshot; publish one with `meshfold build`")
    store = "" if args.store is None else str(args.store.resolve())
    signals: SimpleQueue[int] = SimpleQueue()
    server = FileServer(Job(str(args.folder), store, most_pairs=args.pairs), args.port)
    try:
        for number in _SIGNALS:
            signal.signal(number, lambda number, _: signals.put(number))
        console.print(f"http://{server.address}/shadow shows {args.folder}; Ctrl-C ends it")
        signals.get()
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        server.stop()
    return 0
