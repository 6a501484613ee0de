"""The page of a running server, with real calls, modes, ramps and pairs."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request

import grpc
import pytest

from tests.waiting import wait_until

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from meshfold.compat.live_page import background, pages
from meshfold.compat.migration.client import MigrationClient
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.compat.ramp.audit_log import Action, AuditEntry, By
from meshfold.compat.ramp.ramp_state import RampStore, SurfaceState
from meshfold.compat.ramp.status import State, Status
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import ToldMesh, ask, mesh, publish_items, seen, start, store
from tests.compat.shadow.live_world import workers
from tests.compat.shadow.test_live_comparison import COUNTRY, MESH, REQUEST_ID, USER, personal
from tests.service.test_metrics import fetched

__all__ = ["mesh", "publish_items", "seen", "start", "store"]

Start = Callable[..., Server]


def got(server: Server, path: str = "/shadow") -> str:
    with urllib.request.urlopen(f"http://{server.metrics_address}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def compared(start: Start, store: Path, folder: Path, **settings: Any) -> Server:
    config = ComparisonConfig(on=True, folder=str(folder), file_age_s=0.2, **settings)
    server = start(store, {"comparison": config, "metrics_address": "127.0.0.1:0"})
    client = MigrationClient(server.admin_address)
    client.set("shop", "mirror", 0.0, "ines", "first comparison")
    client.close()
    return server


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_FRESH_S", 0.05)
    monkeypatch.setattr(background, "_SHARE", 1e9)
    monkeypatch.setattr(background, "_NOTHING_S", 0.05)


def test_calls_of_a_server_become_a_page_that_tells_nothing_personal(
    start: Start, store: Path, tmp_path: Path, mesh: ToldMesh
) -> None:
    server = compared(start, store, tmp_path / "pairs", features="country")
    assert "Nothing is compared" not in got(server)
    assert "No pairs in the last 15 minutes" in got(server)
    with grpc.insecure_channel(server.address) as channel:
        for number in range(8):
            ask(channel, personal(number), x_answer_bin=MESH)
    wait_until(lambda: fetched(server.metrics_address).get(("meshfold_comparison_written_total",)) == 8)
    page = got(server)
    assert "shop is to be checked" in page
    assert "first comparison" in page
    # Of the mesh's three items one is admitted.
    assert "mesh 16" in page
    told: list[str] = []

    def details() -> bool:
        found = json.loads(got(server, "/shadow/parts.json?surface=shop"))["parts"]
        told[:] = [part["html"] for part in found]
        return "Examples" in told[-1]

    wait_until(details)
    said = " ".join(told)
    assert "All pairs in files: 8 pairs" in said
    assert "shop 0." in said
    assert 'language == "en"' in said or "language" in said
    for secret in (str(USER), REQUEST_ID, "77771"):
        assert secret not in said
    # The operator named the feature.
    assert COUNTRY in said
    # Metrics are where they were, and link here.
    assert "meshfold_comparison_written_total 8.0" in got(server, "/metrics")
    assert 'href="/shadow"' in got(server, "/")


def test_nothing_on_the_page_switches_anything(start: Start, store: Path, tmp_path: Path) -> None:
    server = compared(start, store, tmp_path / "pairs")
    before = fetched(server.metrics_address)["meshfold_mode_changes_total",]
    url = f"http://{server.metrics_address}/shadow"
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(Request(url, data=b"mode=only", method=method), timeout=10)
    got(server, "/shadow?surface=shop&mode=only&kill=1&set=serve")
    assert fetched(server.metrics_address)["meshfold_mode_changes_total",] == before


def test_the_ramp_beside_the_modes_is_shown(start: Start, store: Path, tmp_path: Path) -> None:
    server = compared(start, store, tmp_path / "pairs")
    steps = ("mirror", "canary 25 %", "serve")
    status = Status("shop", 1, steps, "canary 25 %", State.PAUSED, reason="ines paused it for lunch.")
    entry = AuditEntry(
        0, "", 1, "shop", 1, Action.PAUSE, "mirror", "canary 25 %", By.OPERATOR, "ines", "lunch"
    )
    ramps = RampStore(str(tmp_path / "ramp.json"), tmp_path / "ramp-log.jsonl")
    ramps.decide("shop", lambda _: SurfaceState(status, entry, in_effect=True))
    wait_until(lambda: "ramp paused, step 2 of 3" in got(server))
    page = got(server)
    assert "The ramp is paused: ines paused it for lunch." in page
    assert "pause: mirror to canary 25 %" in page
    (tmp_path / "ramp.json").write_text("{")
    wait_until(lambda: "The ramp cannot be read" in got(server))


def test_a_comparing_process_that_died_is_told(start: Start, store: Path, tmp_path: Path) -> None:
    server = compared(start, store, tmp_path / "pairs")
    wait_until(workers)
    wait_until(lambda: "The comparing process does not run" not in got(server))
    os.kill(workers()[0], signal.SIGKILL)
    wait_until(lambda: "The comparing process does not run" in got(server))


def test_the_page_can_be_left_out_and_shows_modes_without_a_comparison(
    start: Start, store: Path, tmp_path: Path
) -> None:
    without = start(
        store,
        {"metrics_address": "127.0.0.1:0", "comparison": ComparisonConfig(page=False)},
    )
    assert "meshfold_mode" in got(without)
    modes_alone = start(store, {"metrics_address": "127.0.0.1:0"})
    client = MigrationClient(modes_alone.admin_address)
    client.set("shop", "mirror", 0.0, "ines", "")
    client.close()
    page = got(modes_alone)
    assert "comparison.on is false" in page
    assert str(Mode(Kind.MIRROR)) in page
