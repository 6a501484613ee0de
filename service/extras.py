"""Packages that only some commands need, told before their work begins."""

from __future__ import annotations

from importlib import import_module

from meshfold.model.errors import InvalidConfig

# By extra of pyproject.toml: the modules that its packages bring.
EXTRAS = {
    "gpu": ("triton",),
    "mesh": ("faiss", "pyroaring"),
    "plot": ("matplotlib",),
}


def need(extra: str, what: str) -> None:
    """Raises InvalidConfig where a module of an extra cannot be imported. what: needs it, for the message."""
    for module in EXTRAS[extra]:
        try:
            import_module(module)
        except ImportError as error:
            missing = f"{module}, which is not installed" if error.name == module else f"{module} ({error})"
            raise InvalidConfig(f"{what} needs {missing}: pip install 'meshfold[{extra}]'") from None
