"""An event loop on its own thread, for code that runs outside of one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class _DisconnectFilter(logging.Filter):
    """Drops the tracebacks that gRPC logs for a caller that left before its answer was sent, and for a method or
    metadata that are not UTF-8."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        is_text = isinstance(error, UnicodeDecodeError) and record.name == _LOGGERS[0]
        return type(error).__name__ != "ExecuteBatchError" and not is_text


_LOGGERS = ("grpc._cython.cygrpc", "asyncio")


class EventLoop:
    """An event loop that runs from start() to stop()."""

    def __init__(self, name: str) -> None:
        for logger in map(logging.getLogger, _LOGGERS):
            if not any(isinstance(f, _DisconnectFilter) for f in logger.filters):
                logger.addFilter(_DisconnectFilter())
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Waits for a coroutine's result. Callable from any thread except the loop's own."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def stop(self) -> None:
        """Cancels the running tasks, then ends the thread."""
        self.run(self._cancel_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _cancel_rest(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
