"""Selects the pairs to compare, on the server's loop, and passes them on without waiting."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from meshfold.compat.migration.bounded_queue import BoundedQueue
from meshfold.compat.migration.sides import Mesh
from meshfold.compat.shadow.live.asked_pair import AskedPair
from meshfold.compat.shadow.live.budget import Budget
from meshfold.compat.shadow.live.drop_files import DropFile
from meshfold.compat.shadow.live.history import History
from meshfold.compat.shadow.live.noise_share import NoiseShare
from meshfold.compat.shadow.live.samples import samples
from meshfold.compat.shadow.live.sampling import Sampling, asks_again
from meshfold.compat.shadow.live.second_asks import SecondAsks
from meshfold.compat.shadow.live.sender import Sender
from meshfold.compat.shadow.live.tally import Tally
from meshfold.compat.shadow.live.worker_settings import WorkerSettings
from meshfold.service.call import Metadata
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.front import Answered, Distribution, Outcome, Sample

_log = logging.getLogger(__name__)


class LiveComparison:
    """Passes sampled shadowed calls on to the comparing process."""

    def __init__(
        self,
        config: ComparisonConfig,
        mesh: Mesh,
        timeout_s: float,
        store: Path,
        mappings: Sequence[str] = (),
    ) -> None:
        """timeout_s: time limit of the mesh's second answers. store: its snapshots decide which items a request admits.
        mappings: files of callers' own protocols.

        Raises InvalidConfig where the key file cannot be read or `omit` has an unknown name.
        """
        self._config = config
        self._sampling = Sampling(config)
        self._rate = Budget(config.pairs_per_s, config.pairs_per_s)
        self._noise = NoiseShare(config.noise_share, config.noise_width)
        self._asks = SecondAsks(mesh, config, timeout_s, self._offer)
        self.queue: BoundedQueue[AskedPair] = BoundedQueue(config.queue)
        self.history = History()
        settings = WorkerSettings.of(config, store, mappings)
        self.sender = Sender(settings.to_json(), self.queue, self._on_report)
        # Pairs not passed on, by reason, without those dropped by the full queue.
        self._dropped: Counter[str] = Counter()
        self._drops = DropFile(Path(config.folder), config.age_s, lambda: self.dropped)

    def start(self) -> None:
        _log.info("answers of mesh and model are compared; pairs go to %s", self._config.folder)
        self.sender.start()
        self._drops.start()

    def shadowed(self, answered: Answered, shadow: Outcome, metadata: Metadata) -> None:
        """Considers a shadowed call. Runs on the loop. metadata: the caller's, as sent to the mesh."""
        if not self._sampling.takes(answered.surface, answered.message, _request_id(answered)):
            return
        if not self._rate.take():
            self._dropped["rate"] += 1
            return
        # Approximate time of the caller's answer.
        pair = AskedPair(int(1000 * (time.time() - shadow.took_s)), answered, shadow)
        if not (self._wants_noise(pair) and self._asks.offer(pair, metadata)):
            self._offer(pair)

    async def stop_asking(self) -> None:
        """Stops waiting for second answers. Runs on the loop."""
        await self._asks.stop()

    def stop(self, grace_s: float) -> None:
        """Has the last pairs written, within the grace. Called after stop_asking()."""
        self.sender.stop(grace_s)
        self._drops.stop()

    def samples(self) -> Iterator[Sample | Distribution]:
        """The comparison's metrics at this moment."""
        yield Sample("meshfold_comparison_queue", "Pairs that wait to be compared.", len(self.queue))
        for surface in tuple(self.sender.tallies):
            meaning = "Share of pairs for which the mesh is called a second time."
            share = self._noise.of(surface)
            yield Sample("meshfold_comparison_noise_share", meaning, share, {"surface": surface})
        yield from samples(self.sender, self.dropped, self._asks)

    @property
    def dropped(self) -> Counter[str]:
        """Number of pairs lost before a file was written, by reason."""
        # Copies, since other threads change the counters meanwhile.
        dropped = self._dropped.copy() + self.sender.lost.copy()
        dropped["queue"] += self.queue.dropped
        return dropped

    def _wants_noise(self, pair: AskedPair) -> bool:
        """Whether to call the mesh again; never where a side failed, which leaves nothing to compare."""
        if self._config.noise_share <= 0:
            return False
        if any(outcome.code is not grpc.StatusCode.OK for outcome in (pair.answered.outcome, pair.shadow)):
            return False
        answered = pair.answered
        return asks_again(self._noise.of(answered.surface), answered.message, _request_id(answered))

    def _offer(self, pair: AskedPair) -> None:
        self.queue.offer(pair, pair.size_bytes)

    def _on_report(self, surface: str, tally: Tally, more: Mapping[str, Any]) -> None:
        self.history.add(surface, more)
        if self._config.noise_share > 0:
            self._noise.update(surface, tally.recent.get("noise_width"))


def _request_id(answered: Answered) -> bytes | None:
    """The request id of a mapped method; None for mesh.v1, whose message has it."""
    return answered.request_id if answered.method else None
