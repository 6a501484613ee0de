"""An audit: snapshots in this process answer recorded requests, to compare with the mesh's recorded answers.

It calls no server, so that no caller is affected.
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

    A snapshot is loaded at its surface's first request. limits: the server's limits of a request.
    """

    def __init__(
        self,
        store: Path,
        surface: str = "",
        limits: Limits | None = None,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        """surface: the only surface to answer; "" for all. Raises SnapshotRefused where nothing is published."""
        self._folders = {name: folders[0] for name, folders in _published(store, surface).items()}
        self._limits = limits or Limits()
        self._device = device
        self._progress = progress
        self._runners: dict[str, Runner] = {}

    def answer(self, message: bytes) -> SideAnswer:
        """Answers the bytes of a mesh.v1.RetrieveRequest; fails with a status where a server would.

        latency_ms is unknown, since a forward pass here is no measure of a server's latency. Raises SnapshotRefused
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
        except Exception as error:  # a server answers any error with a status
            return failure_of(status_of(error)[0])

    def _runner(self, surface: str) -> Runner:
        """The runner of a surface. Raises UnknownName, SnapshotRefused, or InvalidQuery where "" is ambiguous."""
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
    """The pairs with an answer of the mesh, with the snapshot's answer as the model's side.

    skipped: counts the pairs left out. total: number of pairs, where known. Raises InvalidData at the end where no
    request can be replayed.
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
