"""The `meshfold` command. Only this module gives the server its adapters, and commands their clients."""

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
    """Runs one command. Returns 0: done; 1: an error, in one line on stderr; 2: an invalid command line.

    argv: None for the process's own command line, which also gets a heartbeat on stderr.
    """
    args = _parser().parse_args(argv)
    # Waiting OpenMP threads spin for some 50 us, then sleep: long enough for the next operation of a forward pass, and
    # short enough for other work on the same cores. The default is milliseconds. On two cores a forward pass over a
    # million items takes 5.0 ms with the default, 5.3 with this, 7.7 with sleeping at once; beside two busy processes
    # 286, 36 and 27. Set before torch is imported, which reads it.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        check_kernels(os.environ)
        # Services of `meshfold mesh up` show no heartbeat.
        shows_heartbeat = argv is None and not getattr(args, "attached", False)
        with console.heartbeat(f"meshfold {args.command}") if shows_heartbeat else nullcontext():
            status: int = args.run(args)
        sys.stdout.flush()
        return status
    except MeshfoldError as error:
        print(f"meshfold: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # A reader that closed its pipe expects nothing more. Else the system refused something that no command expects,
        # such as output to a full disk.
        if not isinstance(error, BrokenPipeError):
            print(f"meshfold: {error}", file=sys.stderr)
        _drop_output()
        return 1


def _drop_output() -> None:
    """Keeps the flush at exit from failing again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshfold",
        description="A recommendation retrieval mesh folded into one model behind one server.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {own_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in (data, train, vectors, build, inspect, evaluate):
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
