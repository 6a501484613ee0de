"""What an adapter may have besides the methods of service/work.py: descriptors of its own, and a say in its answer.

POOL: a descriptor pool of protobuf with the messages of its protocol, for reflection.
around(answer): an answer in place of the model's, which may ask it; for metadata, and for answers that need no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from meshfold.service.call import Answer


def answer_of(adapter: Any, model: Answer) -> Answer:
    """The answer of an adapter's method. model: the model's."""
    around: Callable[[Answer], Answer] | None = getattr(adapter, "around", None)
    return model if around is None else around(model)


def pools_of(adapters: Iterable[Any]) -> tuple[Any, ...]:
    """The descriptor pools that adapters bring, each once."""
    return tuple({id(a.POOL): a.POOL for a in adapters if getattr(a, "POOL", None) is not None}.values())


class Pools:
    """Several pools as one: the first that knows a name answers, the process's own after all others."""

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
