"""Sources of pairs: recordings, files of pairs, files of answers, and files of answers to recorded requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from meshfold.compat.key import KeyedHash
from meshfold.compat.shadow.pair_files import read_pairs
from meshfold.compat.shadow.pairs import Pair, PairSide
from meshfold.compat.shadow.recorded import is_recording, recorded_pairs
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.shadow.tap import tapped
from meshfold.compat.traffic import Traffics
from meshfold.model.errors import InvalidData

# Reason for pairs left out because another surface was named; it is counted, but no fault.
OTHER_SURFACES = "pairs of other surfaces"


@dataclass(frozen=True)
class Sources:
    """The sources of pairs of one comparison.

    places: recordings, files and folders of pairs or answers. surface: the only surface to read; "" for all. sides:
    files with answers of one side; together with recordings they answer the recorded requests (tap.py). keyed: hashes
    plain ids in recordings. features: features of users in recordings that become slices. traffics: of mapped methods
    in recordings.
    """

    places: Sequence[Path]
    sides: Mapping[PairSide, Sequence[Path]] = field(default_factory=dict)
    surface: str = ""
    keyed: KeyedHash = field(default_factory=KeyedHash)
    features: Sequence[str] = ()
    traffics: Traffics = field(default_factory=dict)

    def pairs(self, skipped: Skipped) -> Iterator[Pair]:
        """Reads the pairs; may be called several times. skipped: counts skipped pairs and files. Raises InvalidData,
        for a missing place before the first pair."""
        if missing := [place for place in self._all if not place.exists()]:
            raise InvalidData(f"{missing[0]} is not there")
        for pair in self._of_all_surfaces(skipped):
            if self.surface and pair.surface != self.surface:
                skipped.add(OTHER_SURFACES, f"request {pair.request_id!r} of {pair.surface!r}")
            else:
                yield pair

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self._all))

    @property
    def _all(self) -> list[Path]:
        return [*self.places, *(place for of_side in self.sides.values() for place in of_side)]

    def _of_all_surfaces(self, skipped: Skipped) -> Iterator[Pair]:
        recordings = [place for place in self.places if is_recording(place)]
        files = [place for place in self.places if place not in recordings]
        recorded = chain.from_iterable(
            recorded_pairs(place, self.keyed, skipped, self.features, self.traffics) for place in recordings
        )
        if recordings and self.sides:
            logged = read_pairs(sides=self.sides, skipped=skipped)
            yield from tapped(recorded, logged, self.keyed, skipped)
        else:
            yield from recorded
        if files or (self.sides and not recordings):
            sides = {} if recordings else self.sides
            yield from read_pairs(*files, sides=sides, skipped=skipped)
