"""Modes of a server, set and read at its admin address."""

from __future__ import annotations

from contextlib import closing

from meshfold.compat.migration.client import MigrationClient


def set_mode(
    address: str,
    surface: str,
    kind: str,
    percent: float = 0.0,
    who: str = "benchmark",
    why: str = "",
    timeout_s: float = 10.0,
) -> None:
    """Raises CallFailed."""
    with closing(MigrationClient(address, timeout_s=timeout_s)) as client:
        client.set(surface, kind, percent, who, why)


def mode_of(address: str, surface: str) -> str:
    """Raises CallFailed."""
    with closing(MigrationClient(address)) as client:
        return str(client.show().modes.of(surface))
