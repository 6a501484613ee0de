from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from meshfold.compat.mesh.processes import MeshProcesses, ServiceEnded
from meshfold.compat.mesh.settings import TOWER


def test_a_service_that_cannot_start_is_named(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    processes = MeshProcesses(60)
    with pytest.raises(ServiceEnded, match="tower ended with status 1; what it said is above"):
        processes.start({TOWER: [f"--store={store}", "--address=nowhere"]})
    processes.stop(0)
    assert "address must be host:port" in capfd.readouterr().err


def test_a_service_that_is_not_ready_in_time_is_named_and_stopped(store: Path) -> None:
    processes = MeshProcesses(0.05)
    with pytest.raises(ServiceEnded, match=r"not ready within 0.05 s: tower; --wait gives longer"):
        processes.start({TOWER: [f"--store={store}", "--address=127.0.0.1:0"]})
    processes.stop(1)
    assert processes.ended() == TOWER


def test_services_end_with_the_process_that_started_them(store: Path) -> None:
    processes = MeshProcesses(60)
    processes.start({TOWER: [f"--store={store}", "--address=127.0.0.1:0"]})
    child = processes.running[TOWER].process
    assert child.stdin is not None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    # As when this process is killed: the kernel closes its end.
    child.stdin.close()
    assert child.wait(30) == 0
    processes.stop(0)
