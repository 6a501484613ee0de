"""`meshfold serve`: answers retrieval calls until a signal stops it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.service.config import ServerConfig, add_flags, read_config
from meshfold.service.front import ConnectFront
from meshfold.service.handlers import Adapter

if TYPE_CHECKING:
    from meshfold.service.hydration import OpenHydration
    from meshfold.service.server import Operate, Server

_EPILOG = """\
examples:
  meshfold serve --store .meshfold/store
  meshfold serve --config serve.toml --address 0.0.0.0:50051
  meshfold serve --mesh orchestrator:50051 --store .meshfold/store    # in front of a mesh, which answers at first
  meshfold serve --store .meshfold/store --hydrate hydrate.toml    # histories of users that send an id alone
  meshfold serve --store .meshfold/store --mapping acme.toml    # callers with a protocol of their own
  MESHFOLD_LIMITS_MAX_RESULTS=1000 meshfold serve --store .meshfold/store

SIGTERM and SIGINT end it gracefully; a second one at once.
"""
# Makes the adapters for the settings.
AdaptersOf = Callable[[ServerConfig], Sequence[Adapter[Any, Any]]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Stands for a server that ended by itself, in place of a signal's number.
_FAILED = 0


def add(
    subparsers: argparse._SubParsersAction[Any],
    adapters_of: AdaptersOf,
    connect_front: ConnectFront,
    operate: Operate,
    open_hydration: OpenHydration,
) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="answer retrieval calls from the snapshots published in a store",
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        description="Settings come from flags, before MESHFOLD_* variables, before the TOML file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    parser.set_defaults(
        run=partial(
            _run,
            adapters_of=adapters_of,
            connect_front=connect_front,
            operate=operate,
            open_hydration=open_hydration,
        )
    )


def _run(
    args: argparse.Namespace,
    adapters_of: AdaptersOf,
    connect_front: ConnectFront,
    operate: Operate,
    open_hydration: OpenHydration,
) -> int:
    config = read_config(args, os.environ)
    return serve(config, adapters_of(config), operate, connect_front, open_hydration=open_hydration)


def serve(
    config: ServerConfig,
    adapters: Sequence[Adapter[Any, Any]],
    operate: Operate,
    connect_front: ConnectFront | None = None,
    hint: str = "",
    open_hydration: OpenHydration | None = None,
) -> int:
    """Runs a server until SIGTERM or SIGINT; a second signal ends the process at once. Returns 0; 1 where it failed.

    hint: printed when the server is ready.
    """
    from meshfold.service.server import Server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    server = Server(config, adapters, connect_front, console.progress, operate, open_hydration)
    signals: SimpleQueue[int] = SimpleQueue()  # put may be called from a signal handler, unlike Event.set
    server.start(lambda: signals.put(_FAILED))
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: signals.put(number))
    console.print(_ready_line(server, config))
    if server.admin_address:
        console.print(f"operators at {server.admin_address}")
    if hint:
        console.print(hint)
    failed = signals.get() == _FAILED
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    server.stop()
    return 1 if failed else 0


def _ready_line(server: Server, config: ServerConfig) -> str:
    served = [
        f"{surface} version {runner.version[:12]}{' (generated data)' if runner.schema.generated else ''}"
        for surface, runner in sorted(server.runners.items())
    ]
    front = f", in front of the mesh at {config.mesh}" if server.has_front else ""
    if served:
        return f"listening on {server.address}{front}, serving {', '.join(served)}"
    return (
        f"listening on {server.address}{front}, but nothing is published in {config.store} yet: publish with "
        f"`meshfold build DATA --store {config.store}`, and it is served from then on"
    )
