"""Collects the adapters of a server: built-in ones, mappings, and an operator's modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshfold.compat.mapped.compile import load
from meshfold.compat.mapped.converters import object_at
from meshfold.compat.mapped.errors import Misfit
from meshfold.model.errors import InvalidConfig
from meshfold.service.config import ServerConfig

_NEEDED = ("METHOD", "measure", "decode", "path", "encode")


def adapters_of(config: ServerConfig, own: Sequence[Any]) -> tuple[Any, ...]:
    """The adapters of a server. own: the built-in ones. Raises InvalidConfig for a mapping or a module that cannot be
    used, and where two adapters answer one method."""
    found = [*own]
    for name in filter(None, config.mapping.split(",")):
        mapping = load(Path(name))
        found += [*mapping.adapters, *mapping.fixed]
    for name in filter(None, config.adapter.split(",")):
        found += _of_module(name)
    by_method: dict[str, Any] = {}
    for adapter in found:
        if adapter.METHOD in by_method:
            raise InvalidConfig(f"{adapter.METHOD} is answered already; map or register each method once")
        by_method[adapter.METHOD] = adapter
    return tuple(found)


def _of_module(path: str) -> list[Any]:
    """The adapter at an import path, or the module's ADAPTERS."""
    try:
        found = object_at(path, Path.cwd())
    except Misfit as error:
        raise InvalidConfig(f"adapter {error}") from None
    adapters = list(getattr(found, "ADAPTERS", [found]))
    for adapter in adapters:
        missing = [name for name in _NEEDED if not hasattr(adapter, name)]
        if missing:
            raise InvalidConfig(
                f"adapter {path} has no {', '.join(missing)}; it needs {', '.join(_NEEDED)}, or ADAPTERS that have"
            )
        method = adapter.METHOD
        if not isinstance(method, str) or method.count("/") != 2 or not method.startswith("/"):
            raise InvalidConfig(f"adapter {path}: METHOD must be /package.Service/Method, got {method!r}")
    return adapters
