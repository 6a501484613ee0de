"""Loads an operator's Python by import path: a function, or a whole adapter. The operator's code is trusted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.mapping_file import Part

_MOST_TEXT = 400


def function_at(part: Part) -> Callable[[Any], Any]:
    """The function at `package.module:name`. Modules beside the mapping file are found first. Raises InvalidMapping."""
    with part.located():
        found = object_at(part.text(), part.file.resolve().parent)
        if not callable(found):
            raise Misfit(f"{part.raw} is a {type(found).__name__}; expected a function")
        return found  # type: ignore[no-any-return]


def object_at(path: str, folder: Path) -> Any:
    """The object at `package.module:name`, or the module at `package.module`. Raises Misfit."""
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in f"{module}.{name}".strip(".").split(".")):
        raise Misfit(f"{path!r} is no import path; write package.module:name")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split(".") if name else ():
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise Misfit(f"{path}: {type(error).__name__}: {reason:.{_MOST_TEXT}}") from None
    return found
