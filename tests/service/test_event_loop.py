from __future__ import annotations

import asyncio
import threading

import pytest

from meshfold.service.event_loop import EventLoop


def test_a_coroutine_runs_on_the_loops_thread_and_its_result_comes_back() -> None:
    loop = EventLoop("named")

    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise KeyError("mine")

    assert loop.run(where()) == "named"
    with pytest.raises(KeyError, match="mine"):
        loop.run(fail())
    loop.stop()


def test_a_stop_cancels_what_still_runs_and_ends_the_thread() -> None:
    loop = EventLoop("named")
    ended: list[str] = []

    async def run_on() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            ended.append("cancelled")

    async def begin() -> None:
        begun = asyncio.create_task(run_on())
        begun.set_name("kept")
        await asyncio.sleep(0)

    loop.run(begin())
    loop.stop()
    assert ended == ["cancelled"]
    assert "named" not in {thread.name for thread in threading.enumerate()}
    assert loop.loop.is_closed()
