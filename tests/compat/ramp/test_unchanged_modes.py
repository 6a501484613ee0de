"""A mode that is switched only where nobody changed any since it was looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.server import Server
from tests.compat.ramp.conftest import SURFACE


def test_a_change_made_of_older_modes_is_refused(start: Callable[..., Server], store: Path) -> None:
    client = MigrationClient(start(store).admin_address)
    seen = client.show().modes.generation
    client.kill("alice", "")
    with pytest.raises(CallFailed, match="the modes were changed meanwhile"):
        client.set(SURFACE, "serve", 0, "bob", "", generation=seen)
    assert str(client.show().modes.of(SURFACE)) == "mesh"
    now = client.show().modes.generation
    assert str(client.set(SURFACE, "serve", 0, "bob", "", generation=now).modes.of(SURFACE)) == "serve"
    client.close()


def test_a_server_tells_what_it_compares(start: Callable[..., Server], store: Path, tmp_path: Path) -> None:
    settings = ComparisonConfig(
        on=True, canary_share=0.5, surface_shares="shop=0.25", folder=str(tmp_path), omit="filter"
    )
    client = MigrationClient(start(store, {"comparison": settings}).admin_address)
    compared = client.show().compared
    client.close()
    assert compared is not None
    assert (compared.on, compared.canary_share, compared.folder) == (True, 0.5, str(tmp_path))
    assert (compared.share_of(SURFACE), compared.share_of("feed")) == (0.25, 1.0)
    assert (compared.has_key, compared.keep_requests, compared.omit) == (False, False, ("filter",))
