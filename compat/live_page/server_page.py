"""The page's content from a server in front of a mesh."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from meshfold.compat.live_page.background import Background
from meshfold.compat.live_page.facts import Details, PageFacts, SurfaceFacts
from meshfold.compat.live_page.job import Job
from meshfold.compat.live_page.pages import pages
from meshfold.compat.live_page.ramps import Ramps, RampsNow
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Change, Modes
from meshfold.compat.shadow.live.drop_files import REASONS
from meshfold.compat.shadow.live.history import COARSE_S
from meshfold.compat.shadow.live.live_comparison import LiveComparison
from meshfold.service.config import ServerConfig
from meshfold.service.http_port import Page

# Least seconds between computations of a surface's details.
_DETAILS_S = 60.0
_SPAN = f"in the last {3 * COARSE_S / 60:.0f} minutes"


class ServerPage:
    """The page on a server's metrics port. pages: by path."""

    def __init__(
        self,
        config: ServerConfig,
        switch: ModeSwitch,
        served: Callable[[], Collection[str]],
        comparison: LiveComparison | None,
    ) -> None:
        """served: the surfaces that the model serves now. comparison: None without comparison.

        Raises InvalidConfig if the place of the modes is invalid.
        """
        self._folder = config.comparison.folder
        self._switch = switch
        self._served = served
        self._comparison = comparison
        self._ramps = Ramps(config.migration.state, config.copies)
        self._background = Background(Job(self._folder, str(config.store)), _DETAILS_S)
        self.pages: Mapping[str, Page] = pages(self)

    def stop(self) -> None:
        self._background.stop()

    def facts(self) -> PageFacts:
        modes, ramps = self._switch.current, self._ramps.look()
        names = dict.fromkeys((*self._served(), *modes.surfaces, *ramps.statuses, *self._compared()))
        return PageFacts(
            surfaces=[self._surface(name, modes, ramps) for name in names],
            unix_ms=time.time_ns() // 1_000_000,
            about=f"Figures are of this server's calls since it started; details are of the files in {self._folder}.",
            span=_SPAN,
            troubles=tuple(filter(None, (self._switch.trouble, ramps.trouble, *self._troubles()))),
            notes=() if self._comparison else ("Nothing is compared: the setting comparison.on is false.",),
            left_out=self._left_out(),
        )

    def details(self, surface: str) -> Details:
        found = self._background.found(surface)
        if found is None:
            return Details("", "The details are being computed.")
        return Details(found.html, found.caption)

    def _left_out(self) -> Mapping[str, int]:
        dropped = {} if self._comparison is None else self._comparison.dropped
        return {REASONS.get(reason, reason): pairs for reason, pairs in dropped.items()}

    def _compared(self) -> Sequence[str]:
        return () if self._comparison is None else self._comparison.history.surfaces

    def _surface(self, name: str, modes: Modes, ramps: RampsNow) -> SurfaceFacts:
        facts = SurfaceFacts(
            name,
            mode=modes.of(name),
            changes=[change for change in modes.history if _is_of(change, name)],
            ramp=ramps.statuses.get(name),
            decisions=[decision for decision in ramps.decisions if decision.surface == name],
        )
        if self._comparison is None:
            return facts
        history = self._comparison.history
        return replace(facts, now=history.now(name), points=history.points(name))

    def _troubles(self) -> Iterator[str]:
        if self._comparison is not None and not self._comparison.sender.running:
            yield (
                "The comparing process does not run, and pairs are dropped meanwhile. It is started again by itself; "
                "the server's log tells why it ended."
            )


def _is_of(change: Change, surface: str) -> bool:
    return change.surface in ("", surface)
