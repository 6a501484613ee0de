"""Frees the memory of programs in torch.

torch.fx keeps graphs in cycles of references, which only a full garbage collection frees, and keeps the source of
every graph it compiles until the process ends. A server replaces programs for months, and keeps full collections rare.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.fx.graph_module
from torch.fx import GraphModule

# Sources by the name that torch gives them, beside those in linecache.
_sources: dict[str, Any] = torch.fx.graph_module._loader.eval_cache


@contextmanager
def forgotten_sources() -> Iterator[None]:
    """Forgets the sources of the graphs that are compiled within: stack traces go without their lines."""
    before = set(_sources)
    try:
        yield
    finally:
        for name in set(_sources) - before:
            _sources.pop(name, None)
            linecache.cache.pop(name, None)


def release(exported: GraphModule) -> None:
    """Frees the tensors of an unused graph module, in spite of cycles of references."""
    for part in exported.modules():
        part._parameters.clear()
        part._buffers.clear()
