"""Three servers and one Redis that fails, as processes: do they act as one?

    python -m benchmarks.load.fleet --work build/load

1. Kills: a server gets a kill under calls to all three. Reported is the time from the kill to the last call that the
   model answered at any server.
2. Users: calls of each of 10,000 users of a canary go to every server. All must name the same side.
3. Moments: an operator kills at a random moment around a failure: Redis is killed and comes back empty or with an older
   dump, Redis hangs, or the server that got the kill is killed. Callers go on, and try another server where one is
   gone. Afterwards every server must be with the mesh, and no request may have failed.

Last line: BENCH {...}. Exit status 1 where users disagree, a kill was undone, or a request failed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import redis

from benchmarks.arguments import arguments
from benchmarks.load.server import Server, StandIn, free_addresses
from benchmarks.load.world import ATTACKED, World
from benchmarks.redis_process import redis_command
from benchmarks.report import bench
from benchmarks.waiting import wait_until
from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.tools.bench_calls import RETRIEVE

SERVERS, CALLERS = 3, 3
CALL_S = 10.0
LOSSES = ("empty", "older dump", "hangs", "server")


class Redis:
    """A redis-server that keeps nothing but what was dumped."""

    def __init__(self, folder: Path) -> None:
        (self.address,) = free_addresses(1)
        self._dump = folder / "dump.rdb"
        port = self.address.rpartition(":")[2]
        self._command = redis_command(folder, "--port", port, "--bind", "127.0.0.1", "--loglevel", "warning")
        self.client: Any = redis.Redis(port=int(port))
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, "redis-server does not start")

    def dump(self) -> None:
        self.client.save()

    def kill(self, is_dump_kept: bool) -> None:
        self._process.kill()
        self._process.wait()
        if not is_dump_kept:
            self._dump.unlink(missing_ok=True)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False


class Fleet:
    def __init__(self, store: Path, work: Path) -> None:
        self._store, self._work = store, work
        self._stack = ExitStack()
        self.redis = Redis(work)
        self._stack.callback(lambda: self.redis.kill(False))
        self._mesh = self._stack.enter_context(StandIn(work / "mesh.log"))
        self.servers: list[Server] = [self._serve(number) for number in range(SERVERS)]

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        self._stack.close()

    def restart(self, number: int) -> None:
        """After kill -9."""
        self.servers[number].popen.kill()
        self.servers[number].popen.wait()
        self.servers[number] = self._serve(number)

    def call(self, number: int, ask: Callable[[MigrationClient], Any]) -> Any:
        """Raises CallFailed."""
        with closing(MigrationClient(self.servers[number].admin_address)) as client:
            return ask(client)

    def switch(self, kind: str, percent: float = 0.0) -> None:
        """At any server, again until it is written; in effect on all."""

        def written() -> bool:
            with suppress(CallFailed):
                self.call(0, lambda client: client.set(ATTACKED, kind, percent, "fleet", ""))
                return True
            return False

        wait_until(written, "no mode can be set")
        wait_until(lambda: set(self.modes()) == {kind}, "the servers do not follow")

    def modes(self) -> list[str]:
        """The mode of each server, or its trouble."""
        shown = [self.call(number, lambda client: client.show()) for number in range(SERVERS)]
        return [one.trouble or one.modes.of(ATTACKED).kind.value for one in shown]

    def _serve(self, number: int) -> Server:
        place = f"redis://{self.redis.address}/0/fleet"
        flags = ["--mesh", self._mesh.address, "--migration-state", place, "--state", place]
        flags += ["--migration-fallback", "true", "--copies", str(self._work / f"copies{number}")]
        return Server(self._store, self._work / f"serve{number}.log", *flags)


class Callers:
    """Ask any server, from construction to stop(); another where one is gone."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stopping = threading.Event()
        self.requests = self.failed = 0
        self._turn = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, seed: int) -> None:
        rng = random.Random(seed)
        channels: dict[str, grpc.Channel] = {}
        while not self._stopping.is_set():
            message = request(rng.randint(1, 1000))
            addresses = [server.address for server in self._fleet.servers]
            rng.shuffle(addresses)
            answered = any(
                side_of(channels.setdefault(address, grpc.insecure_channel(address)), message)
                for address in addresses
            )
            with self._turn:
                self.requests += 1
                self.failed += not answered
            time.sleep(0.01)
        for channel in channels.values():
            channel.close()


def kills(fleet: Fleet, rounds: int) -> list[float]:
    """Seconds after each kill until no server asked the model any more."""
    took = []
    for number in range(rounds):
        fleet.switch("serve")
        stopping = threading.Event()

        def ask(server: Server, stopping: threading.Event = stopping) -> float:
            """When the last request began that the model answered."""
            last_s, user_id = 0.0, 0
            with grpc.insecure_channel(server.address) as channel:
                while not stopping.is_set():
                    user_id += 1
                    begun_s = time.monotonic()
                    if side_of(channel, request(user_id)) == "model":
                        last_s = begun_s
            return last_s

        with ThreadPoolExecutor(SERVERS) as pool:
            asked = [pool.submit(ask, server) for server in fleet.servers]
            time.sleep(0.3)
            killed_s = time.monotonic()
            fleet.call(number % SERVERS, lambda client: client.kill("fleet", "a round"))
            time.sleep(1.5)
            stopping.set()
            took.append(max(0.0, max(each.result() for each in asked) - killed_s))
    return took


def users_who_differ(fleet: Fleet, users: int) -> int:
    fleet.switch("canary", 37)

    def sides(server: Server) -> list[str]:
        with grpc.insecure_channel(server.address) as channel:
            return [side_of(channel, request(user_id)) for user_id in range(1, users + 1)]

    with ThreadPoolExecutor(SERVERS) as pool:
        return sum(len(set(found)) > 1 for found in zip(*pool.map(sides, fleet.servers), strict=True))


def moment(fleet: Fleet, rng: random.Random) -> bool:
    """Whether the kill of a random moment was undone."""
    loss, number = rng.choice(LOSSES), rng.randrange(SERVERS)
    if loss == "older dump":
        fleet.redis.dump()
    fleet.switch("serve")
    obeyed = threading.Event()

    def kill() -> None:
        time.sleep(rng.uniform(0, 0.3))
        try:
            fleet.call(number, lambda client: client.kill("fleet", loss))
            obeyed.set()
        except CallFailed as error:
            if "the mesh answers everything here now" in str(error):
                obeyed.set()

    killing = threading.Thread(target=kill)
    killing.start()
    time.sleep(rng.uniform(0, 0.3))
    if loss == "hangs":
        fleet.redis.hang()
        time.sleep(rng.uniform(0.1, 2))
        fleet.redis.go_on()
    else:
        fleet.redis.kill(is_dump_kept=loss == "older dump")
        if loss == "server":
            killing.join()
            fleet.restart(number)
        time.sleep(rng.uniform(0, 1))
        fleet.redis.start()
    killing.join()
    if not obeyed.is_set():
        return False
    try:
        wait_until(lambda: set(fleet.modes()) == {"mesh"}, f"{loss}: the servers do not agree on the mesh")
    except SystemExit as error:
        print(error, fleet.modes())
        return True
    return False


def request(user_id: int) -> bytes:
    message: bytes = pb.RetrieveRequest(
        surface=ATTACKED, max_results=5, user={"user_id": user_id}
    ).SerializeToString()
    return message


def side_of(channel: grpc.Channel, message: bytes) -> str:
    """The side that answered; "" without an answer."""
    try:
        _, call = channel.unary_unary(RETRIEVE).with_call(message, timeout=CALL_S)
    except grpc.RpcError:
        return ""
    return str(dict(call.trailing_metadata())["meshfold-answered-by"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__, work="build/load")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--moments", type=int, default=50)
    args = parser.parse_args(argv)
    world = World(args.work, items=2000)
    world.make()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fleet = Fleet(world.store, Path(folder))
        stack.callback(fleet.close)
        took = sorted(kills(fleet, args.rounds))
        print(f"a kill is in effect on all: p50 {took[len(took) // 2]:.2f} s, longest {took[-1]:.2f} s")
        differ = users_who_differ(fleet, args.users)
        print(f"{differ} of {args.users} users are on different sides at different servers")
        callers = Callers(fleet)
        stack.callback(callers.stop)
        rng = random.Random(26)
        undone = sum(moment(fleet, rng) for _ in range(args.moments))
        callers.stop()
        print(
            f"{args.moments} moments: {undone} kills undone, {callers.failed} of {callers.requests} requests failed"
        )
        told = {"name": "fleet", "kill_longest_s": round(took[-1], 3), "users": args.users, "differ": differ}
        told |= {
            "moments": args.moments,
            "undone": undone,
            "requests": callers.requests,
            "failed": callers.failed,
        }
        bench(told)
        return int(bool(differ or undone or callers.failed or took[-1] > 1))


if __name__ == "__main__":
    sys.exit(main())
