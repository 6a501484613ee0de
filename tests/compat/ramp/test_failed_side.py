"""A side that fails before the other answers is evidence, without being asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from meshfold.compat.migration.client import MigrationClient
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, ask, request
from tests.compat.ramp.conftest import COMPARED, SURFACE
from tests.compat.shadow.live_world import answer, rows
from tests.waiting import wait_until

MESH = answer((11, 12, 14))


@pytest.mark.parametrize("mode", ["serve", "canary"])
def test_a_model_that_fails_is_a_pair_with_its_status(
    start: Callable[..., Server], store: Path, tmp_path: Path, mesh: ToldMesh, mode: str
) -> None:
    folder = tmp_path / "pairs"
    server = start(store, {"comparison": replace(COMPARED, folder=str(folder), file_age_s=0.2)})
    client = MigrationClient(server.admin_address)
    client.set(SURFACE, mode, 100.0 if mode == "canary" else 0.0, "a test", "")
    client.close()
    refused = request(7, request_id="one", filter={"match": {"field": "unknown", "strings": ["x"]}})
    with grpc.insecure_channel(server.address) as channel:
        got = ask(channel, refused, x_answer_bin=MESH)
    assert (got.message, got.side) == (MESH, "mesh")
    wait_until(lambda: rows(folder))
    (row,) = rows(folder)
    assert (row["mesh_status"], row["model_status"], row["served_by"]) == ("OK", "INVALID_ARGUMENT", "mesh")
    assert len(mesh.calls) == 1
