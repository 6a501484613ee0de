from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meshfold.compat.mesh import services
from meshfold.model.errors import InvalidConfig


def test_each_service_answers_its_own_call() -> None:
    made = {
        "UserTowerService/Embed": services.tower(1),
        "RetrievalService/Search": services.retrieval(1, Path("indices"), 0, True),
        "ScoringService/Score": services.scoring(1),
        "OrchestratorService/Retrieve": services.orchestrator("a:1", "b:1", "c:1", 1.0, 0),
    }
    for name, (adapter, _) in made.items():
        assert f"/mesh.v1.{name}" == adapter.METHOD


def test_without_the_extra_retrieval_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nearest", "retrieval"):
        monkeypatch.delitem(sys.modules, f"meshfold.compat.mesh.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        InvalidConfig, match=r"the mesh's retrieval needs faiss: pip install 'meshfold\[mesh\]'"
    ):
        services.retrieval(1, Path("indices"), 0, True)
