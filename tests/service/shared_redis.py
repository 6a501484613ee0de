"""A redis-server that fails as one does, and a state that is kept in it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshfold.service.state_kind import StateKind
from tests.compat.hydration.conftest import RedisProcess


class FailingRedis(RedisProcess):
    """Keeps nothing over a restart but what dump() wrote."""

    def dump(self) -> None:
        self.client.save()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def url(self, prefix: str = "fleet") -> str:
        return f"redis://{self.address}/0/{prefix}"


@pytest.fixture
def shared_redis(tmp_path: Path) -> Iterator[FailingRedis]:
    pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    folder = tmp_path / "redis"
    folder.mkdir()
    process = FailingRedis(program, folder)
    yield process
    process.client.close()
    process.kill()


@dataclass(frozen=True)
class Names:
    generation: int = 0
    names: tuple[str, ...] = ()


def _decode(found: Any) -> Names:
    if not isinstance(found, dict) or found.get("format") != 1:
        raise ValueError("an object of format 1 is expected")
    return Names(found["generation"], tuple(found["names"]))


NAMES = StateKind(
    noun="known names",
    remedy="put back a copy, or remove it to know none",
    encode=lambda state: {"format": 1, "generation": state.generation, "names": list(state.names)},
    decode=_decode,
    most_bytes=2000,
    changes=lambda state: [
        (state.generation - i, {"name": name}) for i, name in enumerate(reversed(state.names[-3:]))
    ],
)


def adds(name: str) -> Callable[[Names | None], Names]:
    def change(kept: Names | None) -> Names:
        before = kept or Names()
        return Names(before.generation + 1, (*before.names, name))

    return change
