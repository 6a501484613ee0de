"""Optional attributes of an adapter, besides the methods of service/work.py.

POOL: a protobuf descriptor pool with the messages of its protocol, for reflection.
around(answer): returns an answer that replaces the model's and may call it; for metadata and for static answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from meshfold.service.call import Answer


def answer_of(adapter: Any, model: Answer) -> Answer:
    """The answer of an adapter's method. model: the model's answer."""
    around: Callable[[Answer], Answer] | None = getattr(adapter, "around", None)
    return model if around is None else around(model)


def pools_of(adapters: Iterable[Any]) -> tuple[Any, ...]:
    """The descriptor pools of the adapters, each once."""
    return tuple({id(a.POOL): a.POOL for a in adapters if getattr(a, "POOL", None) is not None}.values())


class Pools:
    """Several descriptor pools as one: the first that has a name answers, the process's own pool last."""

    def __init__(self, pools: Sequence[Any]) -> None:
        from google.protobuf import descriptor_pool

        self._pools = (*pools, descriptor_pool.Default())

    def FindFileByName(self, name: str) -> Any:
        return self._first("FindFileByName", name)

    def FindFileContainingSymbol(self, name: str) -> Any:
        return self._first("FindFileContainingSymbol", name)

    def FindMessageTypeByName(self, name: str) -> Any:
        return self._first("FindMessageTypeByName", name)

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:
        return message.file.pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Any) -> Any:
        return message.file.pool.FindAllExtensions(message)

    def _first(self, method: str, name: str) -> Any:
        for pool in self._pools:
            try:
                return getattr(pool, method)(name)
            except KeyError:
                continue
        raise KeyError(name)
