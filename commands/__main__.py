"""The `meshfold` command: the one place where the server gets its adapters, and commands their clients."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from meshfold.commands import (
    adapt,
    bench,
    build,
    console,
    data,
    deny,
    evaluate,
    gate,
    inspect,
    mesh,
    migrate,
    mode,
    query,
    record,
    replay,
    run,
    serve,
    shadow,
    train,
    tune,
    vectors,
    versions,
)
from meshfold.compat import mesh_v1, meshfold_v1
from meshfold.compat.hydration.hydration import open_hydration
from meshfold.compat.mapped.registration import adapters_of
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.front import Front
from meshfold.compat.query_client import QueryClient
from meshfold.compat.recording.client import RecordingClient
from meshfold.compat.recording.summary import groups, write_requests
from meshfold.compat.version_client import VersionClient
from meshfold.compat.version_service import operate
from meshfold.model.errors import MeshfoldError
from meshfold.model.release import own_version
from meshfold.service.config import check_kernels

ADAPTERS = (meshfold_v1, *mesh_v1.ADAPTERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. 0: done; 1: an error, told in one line on stderr; 2: not a command line of ours.

    argv: None for the process's own command line; then the command also says every few seconds that it works.
    """
    args = _parser().parse_args(argv)
    # Threads that wait spin for some 50 us, then sleep: long enough for the next operation of a forward pass, and short
    # enough for neighbours on the same cores. OpenMP spins for milliseconds by default. Of two threads on two cores a
    # forward pass over a million items took 5.0 ms so, 5.3 with this, 7.7 where they sleep at once; beside two busy
    # neighbours 286, 36 and 27. Read when torch is imported, which no command has done yet.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        check_kernels(os.environ)
        # Services of `meshfold mesh up` leave that to it.
        is_told = argv is None and not getattr(args, "attached", False)
        with console.heartbeat(f"meshfold {args.command}") if is_told else nullcontext():
            status: int = args.run(args)
        sys.stdout.flush()
        return status
    except MeshfoldError as error:
        print(f"meshfold: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe has enough. Without this, flushing at exit would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshfold",
        description="A recommendation retrieval mesh folded into one model behind one server.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {own_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in (data, train, vectors, build, inspect, evaluate, tune):
        command.add(commands)
    serve.add(commands, partial(adapters_of, own=ADAPTERS), Front, operate, open_hydration)
    query.add(commands, QueryClient)
    versions.add(commands, VersionClient)
    deny.add(commands, VersionClient)
    mode.add(commands, MigrationClient)
    migrate.add(commands)
    record.add(commands, RecordingClient, groups, write_requests)
    adapt.add(commands)
    replay.add(commands)
    bench.add(commands)
    shadow.add(commands)
    gate.add(commands)
    run.add(commands, ADAPTERS, operate)
    mesh.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
