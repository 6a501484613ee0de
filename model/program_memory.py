"""Memory management of programs in torch.

torch.fx keeps graphs in cycles of references, which a full garbage collection alone frees, and the source of every
compiled graph until the process ends. A server replaces programs for months and makes full collections rare.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.fx.graph_module
from torch.fx import GraphModule

# torch's cache of sources by their generated name, which exists beside linecache.
_sources: dict[str, Any] = torch.fx.graph_module._loader.eval_cache


@contextmanager
def forgotten_sources() -> Iterator[None]:
    """Removes the sources of graphs that are compiled inside the context; stack traces then lack their lines."""
    before = set(_sources)
    try:
        yield
    finally:
        for name in set(_sources) - before:
            _sources.pop(name, None)
            linecache.cache.pop(name, None)


def release(exported: GraphModule) -> None:
    """Frees the tensors of an unused graph module without a garbage collection."""
    for part in exported.modules():
        part._parameters.clear()
        part._buffers.clear()
