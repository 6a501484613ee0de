"""Somebody's module, named by import path when a snapshot is built; serving never imports it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from torch import nn

from meshfold.model.errors import InvalidData


def module_at(path: str) -> nn.Module:
    """The nn.Module at `package.module:name`: a module, or what a class or function without arguments gives.

    The working folder is looked in first. Raises InvalidData.
    """
    name, colon, attribute = path.partition(":")
    if not (name and colon and attribute):
        raise InvalidData(f"{path!r} is no import path; write package.module:name")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
        module = found if isinstance(found, nn.Module) else found()  # type: ignore[operator]
    except (Exception, SystemExit) as error:
        raise InvalidData(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InvalidData(f"{path} gives {type(module).__name__}; expected a torch.nn.Module")
    return module
