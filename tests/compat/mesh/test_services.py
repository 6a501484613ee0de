from __future__ import annotations

import sys

import pytest

from meshfold.compat.mesh import services
from meshfold.compat.mesh.settings import ORCHESTRATOR, RETRIEVAL, SCORING, SERVICES, TOWER, MeshConfig
from meshfold.model.errors import InvalidConfig


def test_each_service_answers_its_own_call() -> None:
    of = MeshConfig(tower="a:1", retrieval="b:1", scoring="c:1")
    assert {name: services.OF_NAME[name](of).adapter.METHOD for name in SERVICES} == {
        TOWER: "/mesh.v1.UserTowerService/Embed",
        RETRIEVAL: "/mesh.v1.RetrievalService/Search",
        SCORING: "/mesh.v1.ScoringService/Score",
        ORCHESTRATOR: "/mesh.v1.OrchestratorService/Retrieve",
    }


@pytest.mark.parametrize("module", ["faiss", "pyroaring"])
def test_without_the_extra_retrieval_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    told = rf"the mesh's retrieval needs {module}, .*: pip install 'meshfold\[mesh\]'"
    with pytest.raises(InvalidConfig, match=told):
        services.retrieval(MeshConfig())
