"""`meshfold replay`: sends recorded requests to running servers and writes the pairs of their answers."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.commands.replay_summary import ReplaySummary, ServerAnswers
from meshfold.commands.shadow_words import SKIPPED, add_mapping
from meshfold.model.errors import InvalidData, NotDurable

if TYPE_CHECKING:
    from meshfold.compat.key import KeyedHash
    from meshfold.compat.shadow.pair_writer import PairWriter

_EPILOG = f"""\
examples:
  meshfold replay --requests .meshfold/recorded --against orchestrator:50051 --against 127.0.0.1:50051 \\
    --rate 20 --out replayed
  meshfold replay --requests requests.bin --against mesh=orchestrator:50051 --rate 5 --noise 1 --out noise
  meshfold replay --requests .meshfold/recorded --against model=127.0.0.1:50051 --rate 100 --out replayed
  meshfold shadow report replayed

The first server stands on the mesh's side of the pairs, the second on the model's; mesh= and model= in front of an
address say which. A side that is not asked keeps the recorded answer. Requests are due at the rate, whether earlier
ones have answers or not. Ctrl-C asks no more, waits for answers on their way and keeps what is there; a second one ends
at once.

A mesh may log what it answers as shown to a user: the metadata of every call hold meshfold-shadow, those of a second
question meshfold-again besides.

exit status: 0 where every request was asked, whatever the servers answered; {SKIPPED} where some were skipped (they are
counted by reason), 1 where none could be asked or the pairs could not be written, 2 for another command line, 128 and
the signal's number where one stopped it.
"""
_SIDES = ("mesh", "model")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="ask running servers recorded requests again",
        usage="%(prog)s --requests PLACE --against [SIDE=]HOST:PORT [--against ...] --rate N [--out DIR] [options]",
        description="Ask running servers recorded requests again, at a rate, and keep the pairs of their answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--requests",
        type=Path,
        required=True,
        metavar="PLACE",
        help="a recording, pairs with their requests, or a file that `meshfold record read --requests` wrote",
    )
    parser.add_argument(
        "--against",
        action="append",
        required=True,
        metavar="[SIDE=]HOST:PORT",
        help="a server of mesh.v1; at most one for each of mesh and model",
    )
    parser.add_argument("--rate", type=float, required=True, metavar="N", help="requests a second")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder for the pairs, as Parquet")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the requests that are sent to the mesh's side a second time (default: %(default)g)",
    )
    parser.add_argument(
        "--noise-delay",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="until the second time at most, chosen at random (default: %(default)g)",
    )
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="of a call (default: %(default)g)"
    )
    parser.add_argument(
        "--in-flight",
        type=int,
        default=256,
        metavar="N",
        help="most requests that wait for answers at once; more start late (default: %(default)s)",
    )
    parser.add_argument("--key", default="", metavar="FILE", help="key of hashed ids (default: a random one)")
    parser.add_argument(
        "--keep-requests", action="store_true", help="keep whole requests, personal fields included"
    )
    add_mapping(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_run, parser=parser)


def _run(args: argparse.Namespace) -> int:
    from meshfold.compat.key import keyed_hash
    from meshfold.compat.mapped.traffics import traffics_of
    from meshfold.compat.shadow.pairs import PairSide
    from meshfold.compat.shadow.replay import Replay, ReplaySettings
    from meshfold.compat.shadow.replayable import replayable
    from meshfold.compat.shadow.request_files import requests_of
    from meshfold.compat.shadow.skipped import Skipped

    asked = _addresses(args)
    settings = ReplaySettings(args.rate, args.timeout, args.in_flight, args.noise, args.noise_delay)
    replay = Replay({PairSide(side): address for side, address in asked.items()}, settings)
    keyed = keyed_hash(args.key)
    skipped = Skipped()
    requests = replayable(requests_of(args.requests, keyed, skipped, traffics_of(args.mapping)), skipped)
    writer = _writer(args, keyed)
    summary = ReplaySummary({side: ServerAnswers(address) for side, address in asked.items()}, args.out)
    with _stopped_by_signals(replay.stop) as signals, console.progress() as progress:
        stage = f"asking {' and '.join(asked.values())}"
        progress(stage, 0, 1)
        try:
            for pair in replay.pairs(requests):
                summary.add(pair)
                progress(stage, summary.pairs, summary.pairs + 1)
                if writer is not None:
                    writer.append(pair)
        finally:
            if writer is not None:
                writer.close()
        progress(stage, 1, 1)
    if not summary.pairs and not signals:
        raise InvalidData(f"{args.requests} holds no requests")
    summary.requests, summary.late = replay.asked, replay.late
    summary.skipped, summary.notes = skipped.counted, skipped.notes()
    if args.json:
        summary.show_json()
    else:
        summary.show()
    if writer is not None and writer.dropped:
        raise NotDurable(f"{writer.dropped} of {summary.pairs} pairs could not be written to {args.out}")
    if signals:
        return 128 + signals[0]
    return SKIPPED if skipped else 0


def _addresses(args: argparse.Namespace) -> dict[str, str]:
    """The servers' addresses by side."""
    asked: dict[str, str] = {}
    for given in args.against:
        side, is_named, address = given.partition("=")
        if not is_named or side not in _SIDES:
            side, address = next((s for s in _SIDES if s not in asked), _SIDES[-1]), given
        if side in asked:
            args.parser.error(f"argument --against: one server for each of mesh and model, got {given!r} too")
        asked[side] = address
    return {side: asked[side] for side in _SIDES if side in asked}


def _writer(args: argparse.Namespace, keyed: KeyedHash) -> PairWriter | None:
    """A writer without limits. Raises InvalidData where the folder is not empty."""
    from meshfold.compat.shadow.pair_files import PAIRS, PairLimits, PairWriter
    from meshfold.compat.shadow.pair_redaction import PairRedaction

    if args.out is None:
        return None
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        if any(args.out.iterdir()):
            raise InvalidData(f"{args.out} is not empty; name a new folder for the pairs")
    except OSError as error:
        raise InvalidData(f"{args.out} cannot be written: {error.strerror}") from None
    limits = PairLimits(bytes=1 << 62, age_s=float("inf"))
    return PairWriter(args.out / PAIRS, limits, PairRedaction(keyed, keep_requests=args.keep_requests))


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """The received signals. The first one calls stop; a second one has its usual effect."""
    came: list[int] = []

    def stopped(number: int, _: object) -> None:
        came.append(number)
        signal.signal(number, usual[number])
        stop()

    usual: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        usual.update({number: signal.signal(number, stopped) for number in _SIGNALS})
    try:
        yield came
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
