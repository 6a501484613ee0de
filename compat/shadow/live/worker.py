"""The comparing process's work on each pair: decodes, measures, checks, counts and writes it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.live.catalogs import Catalogs
from meshfold.compat.shadow.live.recent import Recent
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.live.worker_settings import WorkerSettings
from meshfold.compat.shadow.pair_measures import PairMeasures, measure
from meshfold.compat.shadow.pair_writer import PairWriter
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.recorded import pairs_of
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.traffic import Traffic, Traffics
from meshfold.model.errors import MeshfoldError
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

_log = logging.getLogger(__name__)

# Seconds between checks for files that are too old; a folder may have thousands of files.
_TICK_S = 5.0
# Kendall's tau and score drift are only in the report.
_MEASURES = MeasureSettings(tau_share=0.0, score_points=0)


class Worker:
    """Processes pairs. Not thread-safe."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._keyed = settings.keyed
        self._features = settings.features
        self._traffics = _traffics(settings.mappings)
        self._writer = PairWriter(Path(settings.folder), settings.limits, settings.redaction())
        self._tick_s = min(_TICK_S, settings.file_age_s)
        self._ticked_s = time.monotonic()
        self._catalogs = Catalogs(Path(settings.store))
        self._tallies: dict[str, Tally] = {}
        self._recent: dict[str, Recent] = {}
        # Counts since the last report.
        self._failed: Counter[str] = Counter()
        self._written = self._dropped = 0

    def take(self, records: Sequence[pb.Recorded]) -> None:
        """Processes the records of one pair. An unforeseen error costs only that pair."""
        try:
            self._take(records)
        except Exception as error:
            self._failed["error"] += 1
            _log.error("a pair could not be compared: %s: %s", type(error).__qualname__, error)

    def _take(self, records: Sequence[pb.Recorded]) -> None:
        pairs = list(pairs_of(list(records), self._keyed, Skipped(), self._features, self._traffics))
        if not pairs:
            self._failed["undecodable"] += 1
        for pair in pairs:
            measured = measure(pair, _MEASURES)
            self._count(pair, measured)
            self._writer.append(pair)

    def report(self) -> dict[str, Any]:
        """The counts since the last report, as JSON."""
        now_s = time.monotonic()
        if now_s - self._ticked_s >= self._tick_s:
            self._ticked_s = now_s
            self._writer.tick()
        written, dropped = self._writer.written - self._written, self._writer.dropped - self._dropped
        self._written, self._dropped = self._writer.written, self._writer.dropped
        if dropped:
            self._failed["folder"] += dropped
        for surface, tally in self._tallies.items():
            tally.recent = self._recent[surface].figures()
        report = {
            "written": written,
            "failed": self._failed,
            "surfaces": {surface: tally.told() for surface, tally in self._tallies.items()},
        }
        self._failed, self._tallies = Counter(), {}
        return report

    def close(self) -> None:
        """Writes the waiting pairs."""
        self._writer.close()

    def _count(self, pair: Pair, measured: PairMeasures) -> None:
        tally = self._tallies.setdefault(pair.surface, Tally())
        tally.count(pair, measured)
        self._recent.setdefault(pair.surface, Recent()).add(pair, measured)
        catalog = self._catalogs.of(pair.surface, pair.model.version) if pair.model else None
        if catalog is not None:
            tally.check(pair, catalog)


def _traffics(mappings: Sequence[str]) -> Traffics:
    """The traffics of the mappings that can be loaded; calls of others are not compared."""
    if not mappings:
        return {}
    from meshfold.compat.mapped.traffics import traffics_of

    found: dict[str, Traffic] = {}
    for name in mappings:
        try:
            found |= traffics_of([Path(name)])
        except MeshfoldError as error:
            _log.error("calls that it maps are not compared: %s", error)
    return found
