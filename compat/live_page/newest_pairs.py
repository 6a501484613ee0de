"""The newest pairs of a folder, which may hold millions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meshfold.compat.shadow.pair_files import UNREADABLE, files_of, read_pairs
from meshfold.compat.shadow.pair_writer import PREFIX, SUFFIX
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

# Limit on files searched for pairs of a rare surface.
_MOST_FILES = 1000


class NewestPairs:
    """At most `most` pairs of one surface, or of all; may be read several times.

    places: files and folders. is_all: whether no pair was left out.

    From files of a PairWriter, whose names contain their time: the newest whole files. From other files: the first
    pairs.
    """

    def __init__(self, place: Path, surface: str | None, most: int) -> None:
        """Raises InvalidData if there are no files."""
        files = files_of(place)
        self._surface = surface
        self._most = most
        self.is_all = True
        self.skipped = Skipped()
        if all(path.name.startswith(PREFIX) and path.name.endswith(SUFFIX) for path in files):
            self.places = self._newest(files)
        else:
            self.places = [place]

    def __call__(self) -> Iterator[Pair]:
        read = 0
        for place in self.places:
            skipped = Skipped()
            try:
                for pair in islice(read_pairs(place, skipped=skipped), 10 * self._most):
                    if self._surface is None or pair.surface == self._surface:
                        if read == self._most:
                            self.is_all = False
                            return
                        read += 1
                        yield pair
            except InvalidData as error:  # removed meanwhile, or damaged
                skipped.add(UNREADABLE, str(error))
            for reason, count in skipped.counted.items():
                self.skipped.add(reason, skipped.first[reason], count)

    def _newest(self, files: Sequence[Path]) -> list[Path]:
        """The newest files with enough rows, oldest first."""
        chosen: list[Path] = []
        left = self._most
        for path in list(reversed(files))[:_MOST_FILES]:
            rows = self._rows(path)
            if rows:
                chosen.append(path)
                left -= rows
            if left <= 0:
                break
        self.is_all = left > 0 and len(files) <= _MOST_FILES
        return chosen[::-1]

    def _rows(self, path: Path) -> int:
        """Number of the surface's rows; 1 for an unreadable file, so that reading it gives the reason."""
        try:
            if self._surface is None:
                return int(pq.read_metadata(path).num_rows)
            column = pq.read_table(path, columns=["surface"]).column("surface")
            return int(pc.sum(pc.equal(column, self._surface)).as_py() or 0)
        except (OSError, pa.ArrowException):
            return 1
