"""Why an item is in one answer of a pair and not in the other: an exact search, and causes that are undone."""

from meshfold.compat.shadow.attribution.causes import Attribution
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts

__all__ = ["Attribution", "MeshFacts"]
