"""Pairs for the gate: from a recording, files, a comparison, or snapshots that answer recorded requests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from meshfold.compat.shadow.audit import SnapshotAnswers, audit
from meshfold.compat.shadow.comparison import Difference
from meshfold.compat.shadow.difference_files import DIFFERENCES, read_differences
from meshfold.compat.shadow.pair_files import PairLimits, PairWriter, read_pairs
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.replayable import replayable
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.shadow.sources import OTHER_SURFACES, Sources
from meshfold.model.errors import InvalidData, NotDurable
from meshfold.model.progress import Progress, silent

_UNLIMITED = PairLimits(bytes=1 << 62, age_s=float("inf"))
_STAGE = "answering by the older snapshot"


@dataclass
class Evidence:
    """Pairs that can be read several times.

    differences: known causes by request id, from a comparison; None if causes are yet to be computed. is_timed:
    whether latencies are those of servers. notes: sentences for the reader. close() removes its temporary folder.
    """

    _sources: Sources
    differences: Mapping[str, tuple[Difference, ...]] | None = None
    is_timed: bool = True
    notes: list[str] = field(default_factory=list)
    _answered: Path | None = None

    @classmethod
    def of(cls, place: Path, surface: str = "") -> Self:
        """place: a recording, files of pairs, or a comparison's folder. Raises InvalidData."""
        if not place.exists():
            raise InvalidData(
                f"{place} is not there; name a recording, or a folder of pairs or of a comparison"
            )
        sources = Sources(places=[place], surface=surface)
        found = place / DIFFERENCES
        return cls(sources, read_differences(found) if found.is_file() else None)

    def pairs(self, skipped: Skipped | None = None) -> Iterator[Pair]:
        """skipped: counts rows that are skipped. Raises InvalidData."""
        skipped = Skipped() if skipped is None else skipped
        if self._answered is None:
            return self._sources.pairs(skipped)
        return read_pairs(self._answered, skipped=skipped)

    def has_model(self) -> bool:
        """Whether any pair has an answer of the model. Raises InvalidData, also if no pair is of the surface."""
        skipped, is_any = Skipped(), False
        for pair in self.pairs(skipped):
            is_any = True
            if pair.model is not None:
                return True
        if not is_any and OTHER_SURFACES in skipped.first:
            raise InvalidData(
                f"no pair is of surface {self._sources.surface!r}; the first pair is {skipped.first[OTHER_SURFACES]}"
            )
        return False

    def answer_by(self, store: Path, skipped: Skipped, progress: Progress = silent) -> None:
        """Answers the requests with the store's newest snapshots, as the model's side.

        Raises InvalidData and SnapshotRefused.
        """
        answers = SnapshotAnswers(store, self._sources.surface, progress=progress)
        self._keep(audit(self.pairs(skipped), answers, skipped, progress))
        self.notes.append(f"The snapshots of {store} answered the requests on the model's side.")

    def answer_by_both(self, older: Path, newer: Path, skipped: Skipped, progress: Progress = silent) -> None:
        """Answers the requests with snapshots of `older` as the mesh's side and of `newer` as the model's.

        A snapshot answers a request the same every time, so the mesh's second answer is its first.
        """
        known = SnapshotAnswers(older, self._sources.surface, progress=progress)
        answers = SnapshotAnswers(newer, self._sources.surface, progress=progress)
        self._keep(
            audit(_answered(self.pairs(skipped), known, skipped, progress), answers, skipped, progress)
        )
        self.notes.append(
            f"The snapshots of {older} answered on the mesh's side, those of {newer} on the model's."
        )

    def close(self) -> None:
        if self._answered is not None:
            shutil.rmtree(self._answered, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, pairs: Iterator[Pair]) -> None:
        try:
            folder = Path(tempfile.mkdtemp(prefix="meshfold-"))
        except OSError as error:
            raise NotDurable(f"no temporary folder can be made: {error.strerror}; set TMPDIR") from None
        try:
            writer = PairWriter(folder, _UNLIMITED, lambda pair: pair)
            for pair in pairs:
                writer.append(pair)
            writer.close()
            if writer.dropped:
                raise NotDurable(
                    f"{writer.dropped} pairs could not be written to {folder}; make room there or set TMPDIR"
                )
            if not writer.written:
                raise InvalidData("no recorded request was answered; record requests of the store's surfaces")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.close()
        self._answered, self.differences, self.is_timed = folder, None, False


def _answered(
    pairs: Iterator[Pair], answers: SnapshotAnswers, skipped: Skipped, progress: Progress
) -> Iterator[Pair]:
    done = 0
    for pair in replayable(pairs, skipped):
        progress(_STAGE, done, done + 1)
        answer = answers.answer(pair.request)
        yield replace(pair, mesh=answer, again=answer)
        done += 1
    progress(_STAGE, done, done)
