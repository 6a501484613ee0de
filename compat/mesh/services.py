"""The four services: the method of each, and how it opens a snapshot.

Their modules are imported when needed: one needs torch, another Faiss, and a command line neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from meshfold.compat.mesh.settings import MODULES, ORCHESTRATOR, RETRIEVAL, SCORING, TOWER, MeshConfig
from meshfold.service.extras import need


@dataclass(frozen=True)
class Service:
    """A service. adapter: of its method (METHOD, measure, decode, path, encode). open: (folder, surface) -> runner;
    raises SnapshotRefused."""

    adapter: Any
    open: Callable[[Path, str], Any]


def tower(of: MeshConfig) -> Service:
    import torch

    from meshfold.compat.mesh.tower import Tower
    from meshfold.compat.mesh_v1 import embed

    torch.set_num_threads(of.threads)
    return Service(embed, Tower.open)


def retrieval(of: MeshConfig) -> Service:
    """The retrieval service. Raises InvalidConfig where a package of the extra is missing."""
    need("mesh", "the mesh's retrieval", MODULES)
    from meshfold.compat.mesh.nearest import use_threads
    from meshfold.compat.mesh.retrieval import Retrieval
    from meshfold.compat.mesh_v1 import search

    use_threads(of.threads)
    opened = partial(
        Retrieval.open,
        indices=of.indices,
        candidates=of.candidates,
        exact=of.exact,
        seed=of.seed,
        recall=of.recall,
    )
    return Service(search, opened)


def scoring(of: MeshConfig) -> Service:
    import torch

    from meshfold.compat.mesh.scoring import Scoring
    from meshfold.compat.mesh_v1 import score

    torch.set_num_threads(of.threads)
    return Service(score, Scoring.open)


def orchestrator(of: MeshConfig) -> Service:
    from meshfold.compat.mesh import orchestrator

    parts = orchestrator.Parts(of.tower, of.retrieval, of.scoring, of.timeout_s)
    opened = partial(orchestrator.Orchestrator.open, parts=parts, candidates=of.candidates)
    return Service(orchestrator, opened)


OF_NAME: dict[str, Callable[[MeshConfig], Service]] = {
    TOWER: tower,
    RETRIEVAL: retrieval,
    SCORING: scoring,
    ORCHESTRATOR: orchestrator,
}
