"""`meshfold mesh`: runs the four services of a reference mesh, to compare with and to migrate from."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.compat.mesh import settings
from meshfold.compat.mesh.settings import BEHIND, ORCHESTRATOR, SERVICES, MeshConfig
from meshfold.model.errors import InvalidConfig, SnapshotRefused
from meshfold.service.config import OF_A_FRONT, SETTINGS, ServerConfig, add_flags, read_config
from meshfold.service.extras import need

if TYPE_CHECKING:
    from meshfold.compat.mesh.processes import MeshProcesses
    from meshfold.compat.mesh.server import MeshServer

_UP_EPILOG = """\
examples:
  meshfold mesh up --store .meshfold/store
  meshfold mesh up --store .meshfold/store --address 127.0.0.1:50061 --exact
  meshfold mesh up --store .meshfold/store --tower-store newer/store --json

Callers ask the orchestrator's address. SIGTERM and SIGINT stop all four; where one ends by itself the others are
stopped too. Needs the extra: pip install 'meshfold[mesh]'.
"""
_RUN_EPILOG = """\
examples:
  meshfold mesh run tower --store .meshfold/store --address 127.0.0.1:50062
  meshfold mesh run retrieval --store .meshfold/store --address 127.0.0.1:50063 --exact
  meshfold mesh run scoring --store .meshfold/store --address 127.0.0.1:50064
  meshfold mesh run orchestrator --store .meshfold/store --address 127.0.0.1:50061 \\
    --tower 127.0.0.1:50062 --retrieval 127.0.0.1:50063 --scoring 127.0.0.1:50064
"""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 0.1
# Settings that only the model's server has.
_OTHERS = (
    "adapter",
    "admin_address",
    "copies",
    "cuda_graphs",
    "device",
    "hold_previous",
    "hydrate",
    "mapping",
    "max_batch",
    "mesh",
    "residuals",
    "retention.days",
    "retention.keep",
    "state",
)


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "mesh",
        help="run the four services that a model replaces",
        description="Run the four services that a model replaces, from the same snapshots.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add_run(commands)


def _add_up(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "up",
        help="start all four and stop them together",
        description="Start the four services of a mesh as processes, wait until they are healthy, stop them together.",
        epilog=_UP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, leave_out=SETTINGS.keys() - {"address", "store"})
    for name in BEHIND:
        parser.add_argument(
            f"--{name}-address", metavar="ADDRESS", help=f"of {name} (default: a free port of the same host)"
        )
    for name in BEHIND:
        parser.add_argument(
            f"--{name}-store",
            type=Path,
            metavar="DIR",
            help=f"a store of its own for {name} (default: --store)",
        )
    settings.add_flags(parser.add_argument_group("mesh"), settings.SETTINGS)
    parser.add_argument(
        "--wait",
        type=float,
        default=900.0,
        metavar="SECONDS",
        help="for a service to become healthy (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON when all are healthy")
    parser.set_defaults(run=_up)


def _add_run(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "run",
        help="run one of them in this process",
        description="Run one service of a mesh in this process.",
        epilog=_RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("service", choices=SERVICES)
    settings.add_flags(parser, BEHIND)
    settings.add_flags(parser.add_argument_group("mesh"), settings.SETTINGS)
    parser.add_argument("--json", action="store_true", help="print one line of JSON when it is ready")
    parser.add_argument("--attached", action="store_true", help="end when standard input closes")
    add_flags(parser, leave_out=[key for key in SETTINGS if key in _OTHERS or key.startswith(OF_A_FRONT)])
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from meshfold.compat.mesh.server import MeshServer

    config = read_config(args, os.environ)
    of = settings.read_flags(args)
    missing = [name for name in BEHIND if not getattr(of, name)]
    if args.service == ORCHESTRATOR and missing:
        raise InvalidConfig(f"an orchestrator needs the addresses of the others: --{' and --'.join(missing)}")
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)s {args.service}: %(message)s", force=True
    )
    # Faiss logs a line for each kind of processor that it lacks code for.
    logging.getLogger("faiss").setLevel(logging.WARNING)
    server = MeshServer(args.service, config, of)
    server.start()
    signals = _signals()
    console.print(_ready_line(args.service, server, config, args.json))
    if args.attached:
        threading.Thread(target=_end_with_input, args=(signals,), daemon=True).start()
    signals.get()
    _default_signals()
    server.stop()
    return 0


def _ready_line(service: str, server: MeshServer, config: ServerConfig, as_json: bool) -> str:
    served = {surface: runner.version for surface, runner in sorted(server.runners.items())}
    if as_json:
        return json.dumps(
            {"service": service, "address": server.address, "pid": os.getpid(), "serving": served}
        )
    if not served:
        return f"{service} listening on {server.address}, but nothing is published in {config.store} yet"
    versions = ", ".join(f"{surface} version {version[:12]}" for surface, version in served.items())
    return f"{service} listening on {server.address}, serving {versions}"


def _up(args: argparse.Namespace) -> int:
    from meshfold.compat.mesh.processes import MeshProcesses, ServiceEnded

    need("mesh", "a mesh", settings.MODULES)
    config = read_config(args, os.environ)
    of = settings.read_flags(args)
    stores = {name: getattr(args, f"{name}_store") or config.store for name in BEHIND}
    for store in sorted({config.store, *stores.values()}):
        _check_store(store, of.surface)
    signals = _signals()
    processes = MeshProcesses(args.wait)
    try:
        host = config.address.rpartition(":")[0]
        processes.start(
            {
                name: _flags(args, of, stores[name], getattr(args, f"{name}_address") or f"{host}:0")
                for name in BEHIND
            }
        )
        addresses: dict[str, Any] = {name: processes.running[name].address for name in BEHIND}
        processes.start({ORCHESTRATOR: _flags(args, replace(of, **addresses), config.store, config.address)})
        _show(processes, args.json)
        while True:
            try:
                signals.get(timeout=_LOOK_S)
            except Empty:
                if (name := processes.ended()) is not None:
                    raise ServiceEnded(f"{processes.why(name)}, so the mesh is stopped") from None
            else:
                return 0
    finally:
        _default_signals()
        processes.stop(config.shutdown_grace_s)


def _flags(args: argparse.Namespace, of: MeshConfig, store: Path, address: str) -> list[str]:
    """The flags of `meshfold mesh run` for a service of `meshfold mesh up`."""
    flags = [f"--store={store}", f"--address={address}", *settings.flags_of(of)]
    return [*flags, f"--config={args.config}"] if args.config else flags


def _check_store(root: Path, surface: str) -> None:
    from meshfold.model.store import Store

    if not Store(root, only=surface).surfaces():
        named = f" of surface {surface!r}" if surface else ""
        raise SnapshotRefused(f"{root}: holds no snapshot{named}; publish one with `meshfold build`")


def _show(processes: MeshProcesses, as_json: bool) -> None:
    running = [processes.running[name] for name in (ORCHESTRATOR, *BEHIND)]
    if as_json:
        console.print(json.dumps({service.name: service.told for service in running}))
        return
    for service in running:
        versions = ", ".join(f"{name} version {v[:12]}" for name, v in service.told["serving"].items())
        console.print(
            f"{service.name:<12} {service.address:<21} pid {service.process.pid}, serving {versions}"
        )


def _signals() -> SimpleQueue[int]:
    """A queue that receives SIGTERM and SIGINT from now on."""
    # SimpleQueue.put may be called from a signal handler, unlike Event.set.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: signals.put(number))
    return signals


def _default_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _end_with_input(signals: SimpleQueue[int]) -> None:
    # Not through Python's buffer, whose lock the waiting thread would have at exit.
    while os.read(sys.stdin.fileno(), 1 << 16):
        pass
    signals.put(signal.SIGTERM)
