"""The ramp's process, the server's and Redis are killed (SIGKILL) at random moments, while callers go on asking.

A small catalog, a mesh, and `meshfold serve --mesh` whose comparison feeds `meshfold migrate`, which goes from mirror
to serve in seconds and begins again. Callers try again while no server listens, as with any restart.
Afterwards every change of a mode must follow a decision that was in the audit log before it, with figures that allow
it, and no request may have failed.

    python -m benchmarks.ramp.kills --kills 50            # modes and the ramp's state in files
    python -m benchmarks.ramp.kills --kills 50 --redis    # in Redis, which is killed, too
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arguments import arguments
from benchmarks.load.server import free_addresses
from benchmarks.mesh.traffic import traffic
from benchmarks.processes import MESHFOLD, command
from benchmarks.ramp.audited import ahead_of_evidence, by_ramps
from benchmarks.ramp.processes import Callers, Process, redis_in
from benchmarks.report import bench
from meshfold.model.config import IndexConfig
from meshfold.model.publishing import ModelParts, publish_data

SURFACE = "generated"
ITEMS, USERS, RESULTS = 2000, 500, 20
# Between kills that come at any time, up to this: processes take some 4 s to start, and some are not ready yet.
UP_S = 9.0
# Other kills come up to SOON_S after the audit log has grown, or after LONG_S without growth.
SOON_S, LONG_S = 0.3, 60.0
# A gate that says yes after few pairs: what is tried is when modes are switched, not what the gate knows.
PLAN = """\
servers = ["{operators}"]
surfaces = ["generated"]
pairs = ["pairs"]
store = "store"
hold_s = 0.4
poll_s = 0.2
state = "{state}"
log = "ramp-log.jsonl"
[gate]
margin = 0.9
error_rate = 0.1
min_users = 20
causes_stop = 0.9
causes_pass = 0.95
exposure_share = 0.99
errors_stop = 0.01
errors_pass = 0.5
p99_stop_ms = inf
"""


def main() -> None:
    parser = arguments(__doc__, work="build/ramp-kills")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--up", type=float, default=UP_S, metavar="SECONDS", help="at most, between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--redis", action="store_true", help="states are in Redis, which is killed, too")
    args = parser.parse_args()
    told = killed(args.work, args.kills, args.up, args.seed, args.redis)
    bench(told)
    sys.exit(1 if told["ahead"] or told["failed"] else 0)


def killed(work: Path, kills: int, up_s: float, seed: int, in_redis: bool) -> dict[str, Any]:
    """The figures of the last line."""
    work.mkdir(parents=True, exist_ok=True)
    for path in {*work.glob("ramp*"), *work.glob("modes*"), *work.glob("*.log")}:
        path.unlink()
    for name in ("pairs", "copies", "redis"):
        shutil.rmtree(work / name, ignore_errors=True)
    data = published(work)
    address, operators = free_addresses(2)
    plan = work / "plan.toml"
    chance = random.Random(seed)
    redis = redis_in(work) if in_redis else None
    modes, state = (redis.url, redis.url) if redis else (str(work / "modes.json"), "ramp.json")
    plan.write_text(PLAN.format(operators=operators, state=state))
    words: list[str | Path] = ["--store", work / "store", "--surface", SURFACE, "--exact", "--json"]
    words += ["--address=127.0.0.1:0"]
    mesh = Process([*MESHFOLD, "mesh", "up", *words], work / "mesh.log", "{")
    mesh.wait_ready()
    upstream = json.loads(next(line for line in mesh.said if "{" in line))["orchestrator"]["address"]
    server = Process(_serve(work, modes, upstream, address, operators), work / "serve.log", "operators at")
    server.wait_ready()
    ramp = Process([*MESHFOLD, "migrate", plan], work / "ramp-process.log")
    victims = [ramp, ramp, server, *([redis] if redis else [])]
    done = 0
    try:
        with Callers(address, list(traffic(data, USERS, RESULTS))) as callers:
            while sum(process.kills for process in {*victims}) < kills:
                for _ in moments(work / "ramp-log.jsonl", chance, up_s):
                    server.ensure()
                    if ramp.has_ended:
                        done += begin_again(plan, ramp)
                victim = chance.choice(victims)
                victim.kill()
                victim.ensure()
            server.wait_ready()
            changes = by_ramps(operators)
    finally:
        for process in (*{*victims}, mesh):
            process.kill()
    ahead = ahead_of_evidence(changes, work / "ramp-log.jsonl")
    for line in ahead:
        print(line)
    for failure, count in callers.failures.items():
        print(f"{count} x {failure}", file=sys.stderr)
    of = {"of_the_ramp": ramp, "of_the_server": server, **({"of_redis": redis} if redis else {})}
    return {
        "name": "ramp_kills",
        "kills": sum(process.kills - 1 for process in of.values()),
        **{name: process.kills - 1 for name, process in of.items()},
        "ramps_in_serve": done,
        "mode_changes": len(changes),
        "ahead": len(ahead),
        "requests": callers.answers.total(),
        "failed": callers.failures.total(),
        "by": dict(callers.answers),
        "retries": callers.retries,
        "rows": str(work / "ramp-log.jsonl"),
    }


def moments(log: Path, chance: random.Random, up_s: float) -> Iterator[None]:
    """Many a second, until a process is to be killed: at any time, or about when a decision is put in effect."""
    start_s = time.monotonic()
    if chance.random() < 0.4:
        end_s, size = start_s + chance.uniform(0.0, up_s), -1
    else:
        end_s, size = start_s + LONG_S, _size(log)
    while time.monotonic() < end_s:
        if size >= 0 and _size(log) > size:
            end_s, size = time.monotonic() + chance.uniform(0.0, SOON_S), -1
        yield
        time.sleep(0.005)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def published(work: Path) -> Path:
    """The data of a catalog, published in the store."""
    data = work / "data"
    if not data.exists():
        words = [f"--items={ITEMS}", "--dimension=16", f"--users={USERS}", f"--out={data}"]
        command("data", "generated", *words)
    publish_data(data, ModelParts(), work / "store", IndexConfig(), lambda *_: None)
    return data


def _serve(work: Path, modes: str, mesh: str, address: str, operators: str) -> list[str | Path]:
    comparison = {
        "on": "true",
        "folder": work / "pairs",
        "canary-share": 1,
        "noise-share": 1,
        "noise-delay-s": 0.1,
        "noise-budget": 1_000_000,
        "file-age-s": 0.3,
        "keep-requests": "true",
    }
    flags = [f"--comparison-{name}={value}" for name, value in comparison.items()]
    return [
        *(*MESHFOLD, "serve", f"--address={address}", f"--admin-address={operators}", f"--mesh={mesh}"),
        *(
            f"--store={work / 'store'}",
            f"--migration-state={modes}",
            f"--copies={work / 'copies'}",
            "--migration-fallback=true",
        ),
        *flags,
    ]


def begin_again(plan: Path, ramp: Process) -> int:
    """1 where the ramp had come to its end, and goes on from mirror; 0 where it only has to be started."""
    told = subprocess.run(
        [*MESHFOLD, "migrate", "override", plan, "--to", "mirror", "--why", "once more"],
        check=False,
        capture_output=True,
        text=True,
    )
    ramp.ensure()
    return int(told.returncode == 0)


if __name__ == "__main__":
    main()
