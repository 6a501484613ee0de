"""A retrieval model from Python, without a server.

    import meshfold

    meshfold.build(items, vectors, store="store")
    model = meshfold.open("store")
    model.retrieve(history=[3, 14], filter="year >= 2000", max_results=10).item_ids

`build` publishes a snapshot of a table of items, `open` loads the newest one. `meshfold serve --store store` serves the
same snapshot.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# A caller's own stubs of meshfold/v1 create a package `meshfold.v1` in another folder.
__path__ = extend_path(__path__, __name__)

if TYPE_CHECKING:
    from meshfold.api.answers import Answer as Answer
    from meshfold.api.opened import Model as Model
    from meshfold.api.opened import open as open
    from meshfold.api.publishing import build as build

__all__ = ["Answer", "Model", "build", "open"]

_HOMES = {"Answer": "answers", "Model": "opened", "open": "opened", "build": "publishing"}


def __getattr__(name: str) -> Any:
    """Imports the named part at its first use, because `import meshfold.protos` must not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'meshfold' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"meshfold.api.{_HOMES[name]}"), name)
