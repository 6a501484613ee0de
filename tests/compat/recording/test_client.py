from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.compat.client import CallFailed
from meshfold.compat.recording.client import RecordingClient
from meshfold.service.recording import RecordingConfig
from meshfold.service.server import Server
from tests.compat.migration.conftest import mesh, publish_items, seen, start, store

__all__ = ["mesh", "publish_items", "seen", "start", "store"]


def test_recording_is_started_shown_and_stopped(
    start: Callable[..., Server], store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "recorded"
    server = start(store, {"recording": RecordingConfig(folder=str(folder))})
    client = RecordingClient(server.admin_address)
    assert not client.show().on
    started = client.start("me", "a reason")
    assert (started.on, started.who, started.why, started.folder) == (True, "me", "a reason", folder)
    assert client.show() == started
    assert not client.stop().on
    with pytest.raises(CallFailed, match="who: is empty"):
        client.start("", "")
    client.close()
    client = RecordingClient(server.address)
    with pytest.raises(CallFailed, match="records no calls: the admin address does"):
        client.show()
    client.close()
