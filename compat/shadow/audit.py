"""An audit: snapshots in this process answer the requests of pairs, beside what the mesh had answered.

No server is asked, and nothing stands in any caller's path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from meshfold.compat.mesh_v1 import retrieve
from meshfold.compat.shadow.answers import answer_of, failure_of
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.compat.shadow.replayable import replayable
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidQuery, SnapshotRefused, UnknownName
from meshfold.model.limits import Limits, check
from meshfold.model.progress import Progress, silent
from meshfold.model.schema import nearest
from meshfold.model.store import Store
from meshfold.service.errors import status_of
from meshfold.service.runner import Runner

NOT_ANSWERED = "requests that the mesh did not answer"
STAGE = "answering recorded requests"


class SnapshotAnswers:
    """Answers requests as `meshfold serve` does over the same store, with the newest snapshot of each surface.

    A snapshot is loaded at its surface's first request. limits: of requests, as the server has them.
    """

    def __init__(
        self,
        store: Path,
        surface: str = "",
        limits: Limits | None = None,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        """surface: the only one to answer for; "" for all. Raises SnapshotRefused where nothing is published."""
        self._folders = {name: folders[0] for name, folders in _published(store, surface).items()}
        self._limits = limits or Limits()
        self._device = device
        self._progress = progress
        self._runners: dict[str, Runner] = {}

    def answer(self, message: bytes) -> SideAnswer:
        """The answer to a mesh.v1.RetrieveRequest's bytes; a status where a server would give one.

        latency_ms stays unknown: a pass in this process does not say how long a server takes. Raises SnapshotRefused
        where the surface's newest snapshot cannot be loaded.
        """
        try:
            size = retrieve.measure(message, self._limits)
            runner = self._runner(size.surface)
            query = retrieve.decode(message)
            check(query, self._limits)
            candidates = runner.run([runner.prepare(query)])[0]
            return answer_of(retrieve.encode(query, candidates))
        except SnapshotRefused:
            raise
        except Exception as error:  # what a server answers with a status, too
            return failure_of(status_of(error)[0])

    def _runner(self, surface: str) -> Runner:
        """Raises UnknownName, SnapshotRefused, or InvalidQuery where "" could be several surfaces."""
        if not surface:
            if len(self._folders) > 1:
                raise InvalidQuery(
                    "surface", f"several are published; name one of {', '.join(self._folders)}"
                )
            surface = next(iter(self._folders))
        if surface not in self._folders:
            raise UnknownName(f"no surface {surface!r} is published{nearest(surface, self._folders)}")
        if surface not in self._runners:
            self._runners[surface] = Runner.open(
                self._folders[surface], surface, self._device, progress=self._progress
            )
        return self._runners[surface]


def audit(
    pairs: Iterable[Pair],
    answers: SnapshotAnswers,
    skipped: Skipped,
    progress: Progress = silent,
    total: int = 0,
) -> Iterator[Pair]:
    """The pairs that have the mesh's answer, each with the snapshot's on the model's side, in place of any other.

    skipped: grows by the pairs that are left out. total: of pairs, where known.
    Raises InvalidData at the end where no request can be asked again.
    """
    done = 0
    for pair in replayable(_answered(pairs, skipped), skipped):
        progress(STAGE, done, max(done + 1, total))
        yield replace(pair, model=answers.answer(pair.request))
        done += 1
    progress(STAGE, done, done)


def _answered(pairs: Iterable[Pair], skipped: Skipped) -> Iterator[Pair]:
    for pair in pairs:
        if pair.mesh is None:
            skipped.add(NOT_ANSWERED, f"request {pair.request_id!r}")
        else:
            yield pair


def _published(store: Path, surface: str) -> Mapping[str, list[Path]]:
    """The folders of each surface's snapshots, newest first. Raises SnapshotRefused where there are none."""
    try:
        published = Store(store, only=surface).look().published
    except OSError as error:
        raise SnapshotRefused(f"{store} cannot be read as a store: {error.strerror}") from None
    if not published:
        named = f" of surface {surface!r}" if surface else ""
        raise SnapshotRefused(f"{store} holds no snapshot{named}; publish one with `meshfold build`")
    return published
