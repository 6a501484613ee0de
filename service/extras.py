"""Packages that only some commands need, told before their work begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from meshfold.model.errors import InvalidConfig

# By extra of pyproject.toml: the modules that its packages bring.
EXTRAS = {
    "gpu": ("triton",),
    "plot": ("matplotlib",),
    "shadow": ("jinja2", "matplotlib"),
}


def need(extra: str, what: str, modules: Sequence[str] = ()) -> None:
    """Raises InvalidConfig where a module of an extra cannot be imported.

    what: needs it, for the message. modules: of the extra; those of EXTRAS where none is given.
    """
    for module in modules or EXTRAS[extra]:
        try:
            import_module(module)
        except ImportError as error:
            missing = f"{module}, which is not installed" if error.name == module else f"{module} ({error})"
            raise InvalidConfig(f"{what} needs {missing}: pip install 'meshfold[{extra}]'") from None
