"""The servers whose modes a ramp switches, through their operators' interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshfold.compat.client import CallFailed
from meshfold.compat.migration.client import MigrationClient, Shown
from meshfold.compat.migration.modes import Change, Mode
from meshfold.model.errors import InvalidQuery

# Author of every mode change by a ramp.
WHO = "meshfold migrate"
_REMEDY = "`servers` in the plan names its admin address"


@dataclass(frozen=True)
class Look:
    """A server's answer about its modes. shown: None without an answer; trouble tells why."""

    address: str
    shown: Shown | None
    trouble: str = ""

    def change(self, surface: str) -> Change | None:
        """The change that put the surface's mode in effect; None if unknown."""
        if self.shown is None:
            return None
        modes = self.shown.modes
        return modes.surfaces.get(surface) or modes.default


class Servers:
    """Connections to the operators' addresses of a plan."""

    def __init__(self, addresses: Sequence[str], timeout_s: float = 5.0) -> None:
        self._clients = {address: MigrationClient(address, timeout_s, _REMEDY) for address in addresses}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def look(self) -> Mapping[str, Look]:
        """By address."""
        return {address: self._look(address) for address in self._clients}

    def switch(self, look: Look, surface: str, mode: Mode, why: str) -> Look:
        """Switches a mode if nothing was changed since the look.

        Returns a new look, which shows another change or the server's refusal.
        """
        assert look.shown is not None
        try:
            shown = self._clients[look.address].set(
                surface, mode.kind.value, mode.percent, WHO, why, generation=look.shown.modes.generation
            )
        except (CallFailed, InvalidQuery) as error:
            after = self._look(look.address)
            return after if after.trouble else Look(look.address, after.shown, str(error))
        return Look(look.address, shown)

    def _look(self, address: str) -> Look:
        try:
            return Look(address, self._clients[address].show(1))
        except (CallFailed, InvalidQuery) as error:
            return Look(address, None, str(error))
