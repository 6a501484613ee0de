"""Checks of optional packages, made before a command begins its work."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from meshfold.model.errors import InvalidConfig

# Modules of the packages of each extra in pyproject.toml.
EXTRAS = {
    "gpu": ("triton",),
    "plot": ("matplotlib",),
    "shadow": ("jinja2", "matplotlib"),
}


def need(extra: str, what: str, modules: Sequence[str] = ()) -> None:
    """Raises InvalidConfig where a module of an extra cannot be imported.

    what: the feature that needs it, for the message. modules: those to check; all of the extra where empty.
    """
    for module in modules or EXTRAS[extra]:
        try:
            import_module(module)
        except ImportError as error:
            missing = f"{module}, which is not installed" if error.name == module else f"{module} ({error})"
            raise InvalidConfig(f"{what} needs {missing}: pip install 'meshfold[{extra}]'") from None
