"""The `meshfold` command: the one place where server, adapters and client meet."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.commands import (
    build,
    console,
    data,
    evaluate,
    inspect,
    mesh,
    mode,
    query,
    record,
    run,
    serve,
    train,
    tune,
    vectors,
)
from meshfold.compat import mesh_v1, meshfold_v1
from meshfold.compat.mesh import services
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.query_client import QueryClient
from meshfold.compat.recording.client import RecordingClient
from meshfold.compat.recording.summary import groups, write_requests
from meshfold.model.errors import MeshfoldError
from meshfold.model.release import own_version
from meshfold.service import errors
from meshfold.service.call import Call
from meshfold.service.config import ServerConfig, check_kernels

if TYPE_CHECKING:
    from meshfold.compat.migration.outcome import Observer
    from meshfold.compat.migration.sides import ModelAnswer
    from meshfold.service.call import Answer
    from meshfold.service.migration import Front

ADAPTERS = (meshfold_v1, *mesh_v1.ADAPTERS)
# Of a recording that is as large as it may be.
_FILES = 16


def connect_front(
    config: ServerConfig,
    models: Mapping[str, Answer],
    served: Callable[[], Collection[str]],
    observers: Sequence[Observer],
) -> Front:
    """What stands in front of the mesh. observers: are told of every call. Raises InvalidConfig."""
    from meshfold.compat.migration.breaker import BreakerSettings
    from meshfold.compat.migration.connections import ConnectionSettings
    from meshfold.compat.migration.front import COMPRESSIONS, Front, FrontSettings
    from meshfold.compat.migration.proxy import ProxySettings
    from meshfold.compat.migration.shadow import ShadowSettings
    from meshfold.compat.recording.record_files import FileLimits
    from meshfold.compat.recording.recorder import Recorder, RecorderSettings
    from meshfold.compat.recording.redaction import Redaction, UserIds

    def model(answer: Answer) -> ModelAnswer:
        return lambda message, deadline_s, is_shadow: answer(Call(message, deadline_s, is_shadow=is_shadow))

    own = config.migration
    shadow = ShadowSettings(
        own.shadow_queue, own.shadow_queue_bytes, own.shadow_timeout_s, own.shadow_threads
    )
    proxy = ProxySettings(own.fallback, own.first_share, shadow)
    breaker = BreakerSettings(own.mesh_timeout_s, own.mesh_waiting, opens=own.fallback)
    calls, streams = (
        ConnectionSettings(
            config.mesh_addresses, COMPRESSIONS[own.compression], keepalive_s, own.keepalive_timeout_s
        )
        for keepalive_s in (own.keepalive_s, own.streams_keepalive_s)
    )
    settings = FrontSettings(Path(own.state), calls, streams, breaker, proxy)
    kept = config.recording
    limits = FileLimits(kept.bytes // _FILES, kept.bytes, kept.age_s)
    recorder = Recorder(
        RecorderSettings(kept.on, Path(kept.folder), limits, kept.queue, kept.queue_bytes),
        Redaction(UserIds(kept.user_ids), kept.omitted),
    )
    asked = {name: model(answer) for name, answer in models.items()}
    return Front(settings, asked, served, observers, errors, recorder)


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
    serve.add(commands, ADAPTERS, connect_front)
    query.add(commands, QueryClient)
    mode.add(commands, MigrationClient)
    record.add(commands, RecordingClient, groups, write_requests)
    run.add(commands, ADAPTERS)
    mesh.add(commands, services)
    return parser


if __name__ == "__main__":
    sys.exit(main())
