"""A made-up company's protocol, mapped and moved to the model while its callers go on: proxy, mirror, canary, serve.

Starts a Redis of histories, the company's own server and `meshfold serve --mesh --mapping --hydrate` in front of it,
drives it with locust in each mode, compares the answers while callers are served and once more from the recording. Its
last line is a JSON object after BENCH.

    python -m benchmarks.own_proto.run --work build/own_proto
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.own_proto.callers import Seen, load, turn_pages, watch, write_messages
from benchmarks.own_proto.overhead import overhead_us
from benchmarks.own_proto.protocol import MAPPING, Messages, messages
from benchmarks.own_proto.world import SURFACE, World
from benchmarks.processes import command, running, serving
from benchmarks.redis_process import redis_process
from benchmarks.report import bench
from meshfold.commands import console

# Mode, and of a canary the percentage.
MODES = (("mesh",), ("mirror",), ("canary", "30"), ("serve",))
_SAME = 0.99
_STOP_S = 20.0


def main() -> None:
    parser = arguments(__doc__, work="build/own_proto")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each mode")
    args = parser.parse_args()
    pb = messages()
    world = World(args.work / "world")
    world.make()
    requests = world.requests(pb, 600)
    asked, failed, wrong = drive(args, world, requests, pb)
    pairs = rows(args.work / "pairs")
    same = same_ids(pairs)
    told = compared(args.work, world)
    same_by_recording = told["overlap"]
    console.print(
        f"{len(pairs)} pairs compared while callers were served: {same:.4f} of the company's ids; "
        f"{told['pairs']} pairs out of the recording: {same_by_recording:.4f}"
    )
    for line in wrong:
        console.print(f"wrong: {line}")
    figures = {
        "name": "own_proto",
        "requests": asked,
        "failed": failed,
        "same_ids": round(same, 4),
        "overhead_us": round(overhead_us(world, requests[:200]), 1),
    }
    bench(figures)
    is_good = not failed and not wrong and same >= _SAME and same_by_recording >= _SAME
    sys.exit(0 if is_good else 1)


def drive(
    args: argparse.Namespace, world: World, requests: Sequence[Any], pb: Messages
) -> tuple[int, int, list[str]]:
    """(requests, those that failed, what should not have been)."""
    work = args.work
    for folder in ("pairs", "recorded", "compared"):
        shutil.rmtree(work / folder, ignore_errors=True)
    write_messages(work / "requests.messages", [request.SerializeToString() for request in requests])
    asked = failed = 0
    wrong: list[str] = []
    with redis_process() as redis:
        url = f"unix://{redis.connection_pool.connection_kwargs['path']}"
        world.fill(redis)
        with company(world, url, work) as legacy, served(args, world, legacy, url) as (address, operators):
            for mode in MODES:
                command("mode", SURFACE, *mode, "--address", operators, "--why", "demonstration")
                named = " ".join(mode)
                report = work / f"load-{mode[0]}"
                sent, lost = load(address, work / "requests.messages", args.rate, args.seconds, report)
                seen = turn_pages(address, requests[:60], pb)
                streamed = watch(address, requests[0], pb)
                asked, failed = asked + sent + seen.requests, failed + lost + seen.failed
                wrong += [f"{named}: {each}" for each in (*seen.wrong, *_sides(mode, seen))]
                if streamed != requests[0].page_size:
                    wrong.append(f"{named}: a stream gave {streamed} videos")
                shares = ", ".join(f"{side} {count}" for side, count in sorted(seen.by.items()))
                console.print(f"{named}: {sent} requests by locust, {lost} failed; answered by {shares}")
            command("record", "stop", "--address", operators)
    return asked, failed, wrong


def _sides(mode: Sequence[str], seen: Seen) -> list[str]:
    """What is wrong with who answered."""
    expected = {"mesh": {"mesh"}, "mirror": {"mesh"}, "canary": {"mesh", "model"}, "serve": {"model"}}
    return [] if set(seen.by) == expected[mode[0]] else [f"answered by {', '.join(sorted(seen.by))}"]


@contextmanager
def company(world: World, redis_url: str, work: Path) -> Iterator[str]:
    """The address of the company's own server, until the block ends."""
    program = (sys.executable, "-m", "benchmarks.own_proto.legacy")
    words: list[str | Path] = ["--world", world.home, "--redis", redis_url]
    with running(words, "listening on ", work / "legacy.log", program) as said:
        yield said.strip().removeprefix("listening on ")


@contextmanager
def served(args: argparse.Namespace, world: World, legacy: str, redis_url: str) -> Iterator[tuple[str, str]]:
    """The addresses of the server in front, for callers and for operators. Pairs are whole when it stops."""
    work = args.work
    (work / "modes.json").unlink(missing_ok=True)
    hydrate = work / "hydrate.toml"
    hydrate.write_text(
        f'[hydrate.{SURFACE}]\nredis = "{redis_url}"\nkey = "watched:{{user}}"\ndeadline_s = 5.0\n'
    )
    flags: list[str | Path] = ["--store", world.store, "--mesh", legacy, "--mapping", MAPPING]
    flags += ["--hydrate", hydrate]
    flags += ["--migration-state", work / "modes.json", f"--queue-s={_STOP_S}"]
    flags += ["--recording-on=true", "--recording-folder", work / "recorded"]
    flags += ["--comparison-on=true", "--comparison-folder", work / "pairs"]
    flags += ["--comparison-canary-share=0.5", f"--comparison-pairs-per-s={10 * args.rate}"]
    with serving(flags, work / "serve.log") as addresses:
        yield addresses


def rows(folder: Path) -> list[Mapping[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def same_ids(pairs: Sequence[Mapping[str, Any]]) -> float:
    """The share of the company's own ids that the model's answers have."""
    shares = []
    for row in pairs:
        if row["mesh_status"] == row["model_status"] == "OK" and row["mesh_item_ids"]:
            wanted = row["mesh_item_ids"]
            shares.append(len(set(wanted) & set(row["model_item_ids"])) / len(wanted))
    if not shares:
        raise SystemExit("no pair has both answers")
    return statistics.fmean(shares)


def compared(work: Path, world: World) -> dict[str, Any]:
    """Compares the recording; prints the parts of requests that the mapping does not read."""
    recorded = work / "recorded"
    console.print(command("adapt", "check", MAPPING, "--recording", recorded).rstrip())
    words: list[str | Path] = ["--mapping", MAPPING, "--store", world.store, "--out", work / "compared"]
    command("shadow", "compare", recorded, *words)
    (surface,) = json.loads((work / "compared" / "comparison.json").read_text())["comparison"]["surfaces"]
    overlap = next(each for each in surface["figures"] if each["name"] == "overlap@K")
    return {"pairs": surface["pairs"], "overlap": overlap["difference"]["value"]}


if __name__ == "__main__":
    main()
