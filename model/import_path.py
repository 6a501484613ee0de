"""Loading of an operator's module by import path or file, at build time; serving never imports it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from meshfold.model.errors import InvalidData

# Limits of the quoted part of the module's own error: lines, and characters.
_MOST_LINES, _MOST_TEXT = 5, 400


def module_at(path: str) -> nn.Module:
    """The nn.Module at `package.module:name` or `folder/file.py:name`: a module, or the result of a class or function
    without arguments.

    Its imports are searched in the working folder first, or in the file's own folder. Raises InvalidData.
    """
    file, _, last = path.rpartition(":")
    name, colon, attribute = (file, ":", last) if file.endswith(".py") else path.partition(":")
    if not (name and colon and attribute):
        raise InvalidData(f"{path!r} is no import path; write package.module:name or folder/file.py:name")
    try:
        found = _of_file(Path(name)) if name.endswith(".py") else _of_package(name)
        for part in attribute.split("."):
            found = getattr(found, part)
        module = found if isinstance(found, nn.Module) else found()  # type: ignore[operator]
    except (Exception, SystemExit) as error:
        # Lists of missing weights have one line for each.
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:_MOST_LINES] if line.strip())
        raise InvalidData(f"{path}: {type(error).__name__}: {reason:.{_MOST_TEXT}}") from error
    if not isinstance(module, nn.Module):
        raise InvalidData(f"{path} gives {type(module).__name__}; expected a torch.nn.Module")
    return module


def _of_package(name: str) -> ModuleType:
    _look_in(Path.cwd())
    return importlib.import_module(name)


def _of_file(file: Path) -> ModuleType:
    """The module of a file, which runs once in a process."""
    whole = file.resolve(strict=True)
    name = f"file:{whole}"
    if name not in sys.modules:
        _look_in(whole.parent)
        spec = importlib.util.spec_from_file_location(name, whole)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
