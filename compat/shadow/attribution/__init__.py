"""Attribution: the cause of each difference of a pair, found by an exact search and by undoing one cause at a time."""

from meshfold.compat.shadow.attribution.causes import Attribution
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts

__all__ = ["Attribution", "MeshFacts"]
