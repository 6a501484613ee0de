"""Loads the Traffic of all mapped methods."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meshfold.compat.mapped.compile import load
from meshfold.compat.traffic import Traffic
from meshfold.model.errors import InvalidConfig


def traffics_of(files: Iterable[Path]) -> dict[str, Traffic]:
    """The Traffic of each method, by full name. Raises InvalidConfig, InvalidMapping."""
    found: dict[str, Traffic] = {}
    for file in files:
        for adapter in load(file).adapters:
            if adapter.METHOD in found:
                raise InvalidConfig(
                    f"{adapter.METHOD} is mapped twice, in {file} again; map each method once"
                )
            assert adapter.traffic is not None
            found[adapter.METHOD] = adapter.traffic
    return found
