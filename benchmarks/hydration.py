"""Cost of filling in a user: a file of many users, Redis on the same machine, a Python function.

Prints, for each source, microseconds a lookup on the event loop, one lookup at a time, and the processor's share of
them; for the file also the processor's time of loading.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arguments import arguments
from benchmarks.redis_process import redis_process
from meshfold.compat.hydration.hydration import open_hydration
from meshfold.model.types import Query
from meshfold.service.hydration import Hydrate

_HISTORY, _LOOKUPS, _IN_REDIS = 100, 20_000, 10_000


def _write(path: Path, users: int, strings: bool) -> None:
    """Users in random order, each with a history of 100 items and a feature."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(users) + 1
    keys = pa.array([f"user-{i}" for i in ids.tolist()]) if strings else pa.array(ids)
    offsets = np.arange(users + 1, dtype=np.int64) * _HISTORY
    history = pa.LargeListArray.from_arrays(offsets, rng.integers(0, 1_000_000, users * _HISTORY))
    country = pa.array(np.array(["de", "fr", "es"])[rng.integers(0, 3, users)])
    names = ["user_key" if strings else "user_id", "history", "country"]
    pq.write_table(pa.table(dict(zip(names, (keys, history, country), strict=True))), path)


@contextmanager
def _hydrated(folder: Path, toml: str) -> Iterator[tuple[float, Hydrate]]:
    """(processor's seconds that opening took, the surface's Hydrate)."""
    file = folder / "hydrate.toml"
    file.write_text(f"[hydrate.shop]\n{toml}\ndeadline_s = 5\npoll_interval_s = 600\n")
    start_s = time.process_time()
    hydration = open_hydration(file)
    opened_s = time.process_time() - start_s
    hydration.start()
    hydrate = hydration.of("shop")
    assert hydrate is not None
    yield opened_s, hydrate


async def _lookup_us(hydrate: Hydrate, users: Sequence[int | str]) -> tuple[float, float, float]:
    """(median, 99th percentile, mean of the processor's time) of one lookup after another."""
    took = []
    cpu_s = time.process_time()
    for user in users:
        start_s = time.perf_counter()
        query = await hydrate.hydrate(Query("shop", 10, user_id=user), time.monotonic() + 5)
        took.append(time.perf_counter() - start_s)
        assert len(query.history) == _HISTORY
    mean_s = (time.process_time() - cpu_s) / len(users)
    return float(np.median(took) * 1e6), float(np.percentile(took, 99) * 1e6), mean_s * 1e6


def _print(name: str, us: tuple[float, float, float], more: str = "") -> None:
    print(f"{name:<20} {us[0]:7.1f} us median {us[1]:8.1f} us p99 {us[2]:7.1f} us cpu {more}", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    users = parser.parse_args().users
    rng = np.random.default_rng(1)
    asked = (rng.integers(0, users, _LOOKUPS) + 1).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for strings in (False, True):
            _write(folder / "users.parquet", users, strings)
            size = (folder / "users.parquet").stat().st_size >> 20
            with _hydrated(folder, 'file = "users.parquet"') as (opened_s, hydrate):
                ids = [f"user-{i}" for i in asked] if strings else asked
                us = asyncio.run(_lookup_us(hydrate, ids))
                kind = "keys" if strings else "ids"
                more = f"users={users} parquet_mb={size} load_cpu_s={opened_s:.1f}"
                _print(f"file, {kind}", us, more)
        (folder / "bench_users.py").write_text(
            f"def load(user_id):\n    return {{'history': [1] * {_HISTORY}}}\n"
        )
        with _hydrated(folder, 'function = "bench_users:load"') as (_, hydrate):
            _print("function on threads", asyncio.run(_lookup_us(hydrate, asked[:5000])))
        if shutil.which("redis-server") is None:
            print("redis: left out, redis-server is not installed")
            return
        with redis_process() as client:
            value = json.dumps({"history": list(range(_HISTORY)), "features": {"country": "de"}})
            for user in range(_IN_REDIS):
                client.set(f"meshfold:user:{user}", value)
            socket = client.connection_pool.connection_kwargs["path"]
            with _hydrated(folder, f'redis = "unix://{socket}"') as (_, hydrate):
                _print("redis, JSON", asyncio.run(_lookup_us(hydrate, list(range(1, 5001)))))


if __name__ == "__main__":
    main()
