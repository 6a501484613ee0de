"""`meshfold bench`: the highest rate at which a running server keeps its latency."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.model.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    from meshfold.tools.bench_search import Found, Search, Window

_EPILOG = """\
examples:
  meshfold bench --target 127.0.0.1:50051 --p99 100ms --requests requests.bin
  meshfold bench --target 127.0.0.1:50051 --p99 50ms --plot rates.svg
  meshfold bench --target echo:50051 --method /echo.Echo/Call --p99 5ms --requests messages.bin --json

Calls are due at random moments at a rate, whether earlier ones were answered or not (an open loop), and their time
counts from when they were due. Rates rise until more than 1 % of the calls fail or take longer than --p99; then rates
in between are tried. A file of requests holds messages, each after its length as a varint, such as `meshfold record
read --requests` writes; they are sent as they are, in turn, and answers are not read. Measure from another machine
where you can: sending takes processor time, too. Where calls were sent late, the generator is named.
"""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)\Z")
_TARGET = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]+):\d{1,5}\Z")
_METHOD = re.compile(r"/[\w.]+/\w+\Z")
_LONGEST_MS = 60_000.0


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="find the highest rate at which a running server keeps its latency",
        description="Find the highest rate at which 99 % of a running server's answers come within a time.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="a gRPC server, without TLS")
    parser.add_argument(
        "--p99",
        required=True,
        metavar="TIME",
        help="that the 99th percentile may take, such as 100ms or 1.5s",
    )
    parser.add_argument(
        "--requests", type=Path, metavar="FILE", help="file of requests, each after its length"
    )
    parser.add_argument(
        "--method",
        default="/mesh.v1.OrchestratorService/Retrieve",
        metavar="/SERVICE/METHOD",
        help="a unary call (default: %(default)s)",
    )
    parser.add_argument(
        "--surface", default="", metavar="NAME", help="without --requests (default: the only one served)"
    )
    parser.add_argument(
        "--results", type=int, default=100, metavar="N", help="without --requests (default: %(default)s)"
    )
    parser.add_argument(
        "--from-rate",
        type=float,
        default=2.0,
        metavar="N",
        help="tried first, a second (default: %(default)g)",
    )
    parser.add_argument(
        "--to-rate", type=float, default=20_000.0, metavar="N", help="tried at most (default: %(default)g)"
    )
    parser.add_argument(
        "--window",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="of a rate, at least (default: %(default)g)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="latency by rate, as .png or .svg")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    limit_ms, search = _limit_ms(args.p99), _search(args)
    if args.plot is not None:
        _check_plot(args.plot)
    from meshfold.tools.bench_calls import write_messages
    from meshfold.tools.bench_search import highest_rate
    from meshfold.tools.bench_target import Target, read_length_prefixed

    messages = [_plain(args)] if args.requests is None else read_length_prefixed(args.requests)
    with tempfile.TemporaryDirectory() as scratch, console.progress() as progress:
        file = write_messages(Path(scratch) / "messages", messages)
        target = Target(args.target, file, limit_ms, args.method, anywhere=True)
        target.check()
        found = highest_rate(target.window, search, progress)
    if args.json:
        console.print(json.dumps(_json(args.target, limit_ms, found)))
    else:
        _show(args, limit_ms, found)
    if args.plot is not None:
        from meshfold.tools.bench_plot import draw

        try:
            draw(found, limit_ms, args.target, args.plot)
        except OSError as error:
            raise InvalidData(f"{args.plot} cannot be written: {error.strerror}") from None
    return 0


def _limit_ms(text: str) -> float:
    found = _DURATION.match(text)
    limit_ms = float(found[1]) * (1000 if found[2] == "s" else 1) if found else 0.0
    if not 0 < limit_ms <= _LONGEST_MS:
        raise InvalidConfig(f"--p99 must be a time of up to 60s, such as 100ms or 1.5s; got {text!r}")
    return limit_ms


def _search(args: argparse.Namespace) -> Search:
    from meshfold.tools.bench_search import Search

    if not _TARGET.match(args.target):
        raise InvalidConfig(f"--target must be host:port, such as 127.0.0.1:50051; got {args.target!r}")
    if not _METHOD.match(args.method):
        raise InvalidConfig(f"--method must be /package.Service/Method; got {args.method!r}")
    if not 0 < args.from_rate < args.to_rate <= 1e6:
        raise InvalidConfig(
            f"--from-rate must be above 0 and below --to-rate, at most 1e6; got {args.from_rate:g} and"
            f" {args.to_rate:g}"
        )
    if not 0.1 <= args.window <= 600:
        raise InvalidConfig(f"--window must be 0.1 to 600 seconds, got {args.window:g}")
    if not 1 <= args.results <= 1_000_000:
        raise InvalidConfig(f"--results must be 1 to 1,000,000, got {args.results}")
    return Search(
        first_hz=args.from_rate,
        most_hz=args.to_rate,
        window_s=args.window,
        longest_s=3 * args.window,
    )


def _check_plot(path: Path) -> None:
    from meshfold.service.extras import need

    if path.suffix not in (".png", ".svg"):
        raise InvalidConfig(f"--plot must end in .png or .svg, got {path}")
    if not path.parent.is_dir():
        raise InvalidConfig(f"--plot {path}: there is no folder {path.parent}")
    need("plot", "--plot")


def _plain(args: argparse.Namespace) -> bytes:
    """The bytes of a request without a user."""
    from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

    message: bytes = pb.RetrieveRequest(surface=args.surface, max_results=args.results).SerializeToString()
    return message


def _json(target: str, limit_ms: float, found: Found) -> dict[str, Any]:
    return {
        "target": target,
        "p99_ms": limit_ms,
        "rate_hz": found.rate_hz,
        "low_hz": found.low_hz,
        "high_hz": found.high_hz,
        "reached_most": found.reached_most,
        "generator_late_windows": found.generator_was_late,
        "windows": [asdict(window) for window in found.windows],
    }


def _show(args: argparse.Namespace, limit_ms: float, found: Found) -> None:
    windows = sorted(found.windows, key=lambda window: window.rate_hz)
    console.table(
        [
            "a second",
            "calls",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "late",
            "failed",
            "sent late ms",
            "generator's cores",
        ],
        [_cells(window) for window in windows],
        f"{args.target}, 99 % within {limit_ms:g} ms",
    )
    if args.requests is None:
        console.print(
            "requests had no history: their users get the most popular items; --requests sends real ones"
        )
    for line in _notes(found, limit_ms, windows):
        console.print(line)


def _notes(found: Found, limit_ms: float, windows: list[Window]) -> list[str]:
    lines = []
    if late := found.generator_was_late:
        worst = max(window.generator_late_ms for window in windows)
        lines.append(
            f"the generator itself was late in {late} of {len(windows)} windows, by {worst:.0f} ms at its 99th"
            " percentile: the rate may be that of this machine, not of the server"
        )
    if failed := sum(window.failed for window in windows):
        lines.append(
            f"{failed} of {sum(window.calls for window in windows)} calls failed; each counts as late"
        )
    if not found.rate_hz:
        lowest = windows[0]
        lines.append(
            f"no rate that was tried is kept: at {lowest.rate_hz:.3g} a second the 99th percentile is"
            f" {lowest.p99_ms:.0f} ms"
        )
        return lines
    least = "at least " if found.reached_most else ""
    lines.append(
        f"{least}{found.rate_hz:.1f} requests a second with 99 % within {limit_ms:g} ms"
        f" (95 % interval {found.low_hz:.1f} to {found.high_hz:.1f})"
    )
    return lines


def _cells(window: Window) -> list[object]:
    return [
        f"{window.rate_hz:.1f}",
        window.calls,
        *(f"{value:.1f}" for value in (window.p50_ms, window.p95_ms, window.p99_ms)),
        window.late,
        window.failed,
        f"{window.generator_late_ms:.1f}",
        f"{window.generator_cores:.2f}",
    ]
