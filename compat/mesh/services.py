"""The four services: the call that each answers, and how each opens a snapshot.

Modules are imported when a service is asked for: one needs torch, another Faiss, and a command line neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from meshfold.model.errors import InvalidConfig

# An adapter (METHOD, decode, encode), and (folder, surface) -> what answers for a snapshot.
Service = tuple[Any, Callable[[Path, str], Any]]


def tower(threads: int) -> Service:
    """threads: of one operation."""
    import torch

    from meshfold.compat.mesh.tower import Tower
    from meshfold.compat.mesh_v1 import embed

    torch.set_num_threads(threads)
    return embed, Tower.open


def retrieval(threads: int, indices: Path, candidates: int, exact: bool) -> Service:
    """threads: of one search. indices, candidates, exact: see Retrieval.open.

    Raises InvalidConfig where a package of the extra is missing.
    """
    try:
        from meshfold.compat.mesh.nearest import use_threads
        from meshfold.compat.mesh.retrieval import Retrieval
    except ImportError as error:
        raise InvalidConfig(
            f"the mesh's retrieval needs {error.name}: pip install 'meshfold[mesh]'"
        ) from None
    from meshfold.compat.mesh_v1 import search

    use_threads(threads)
    return search, partial(Retrieval.open, indices=indices, candidates=candidates, exact=exact)


def scoring(threads: int) -> Service:
    """threads: of one operation."""
    import torch

    from meshfold.compat.mesh.scoring import Scoring
    from meshfold.compat.mesh_v1 import score

    torch.set_num_threads(threads)
    return score, Scoring.open


def orchestrator(tower: str, retrieval: str, scoring: str, timeout_s: float, candidates: int) -> Service:
    """tower, retrieval, scoring: addresses. timeout_s, candidates: see Parts and Orchestrator.open."""
    from meshfold.compat.mesh import orchestrator

    parts = orchestrator.Parts(tower, retrieval, scoring, timeout_s)
    return orchestrator, partial(orchestrator.Orchestrator.open, parts=parts, candidates=candidates)
