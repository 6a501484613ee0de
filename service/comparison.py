"""Settings of the live comparison of the answers of mesh and model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from meshfold.model.errors import InvalidConfig

_LEAST_BYTES = 1 << 20


@dataclass(frozen=True)
class ComparisonConfig:
    on: Annotated[bool, "whether answers of mesh and model are compared"] = False
    share: Annotated[float, "share of shadowed calls that are compared, 0 to 1"] = 1.0
    surface_shares: Annotated[str, "that share for single surfaces, such as feed=0.05,search=1"] = ""
    canary_share: Annotated[
        float, "share of a canary's users whose calls also go to the other side, 0 to 1"
    ] = 0.0
    pairs_per_s: Annotated[float, "most pairs a second; more are dropped"] = 100.0
    queue: Annotated[int, "most pairs that wait for the comparing process, in 64 MiB; more are dropped"] = (
        1024
    )
    noise_share: Annotated[
        float, "largest share of pairs for which the mesh is called again, 0 to 1; 0 for never"
    ] = 0.0
    noise_width: Annotated[
        float, "width of the interval of overlap minus noise at which the share grows no more"
    ] = 0.02
    noise_delay_s: Annotated[float, "longest random delay before the mesh is called again, in seconds"] = 1.0
    noise_budget: Annotated[int, "most times in an hour that the mesh is called again"] = 3600
    noise_waiting: Annotated[int, "most pairs that wait for the mesh's second answer"] = 64
    folder: Annotated[str, "folder of the files of pairs"] = ".meshfold/pairs"
    bytes: Annotated[int, "most bytes of those files; the oldest are deleted"] = 1 << 30
    age_s: Annotated[float, "seconds after which a file is deleted"] = 7 * 86_400.0
    file_age_s: Annotated[
        float, "seconds after which waiting pairs are written to a file; a crash loses them"
    ] = 60.0
    keep_requests: Annotated[
        bool,
        "whether files keep whole requests, personal fields included, so that they can be replayed",
    ] = False
    omit: Annotated[
        str,
        "columns left out of files: filter, request, user_key, slices, slices.NAME, several with commas",
    ] = ""
    features: Annotated[
        str, "features of users by which pairs are grouped, several with commas; none personal"
    ] = ""
    page: Annotated[
        bool, "whether the metrics port shows the live page, answers to hashed users among it"
    ] = True
    key_file: Annotated[
        str,
        "file with the key of hashed ids; where it is empty each start makes a random key, which changes all hashes",
    ] = ""

    def __post_init__(self) -> None:
        for name in ("share", "canary_share", "noise_share"):
            _check_share(name, getattr(self, name))
        for surface, share in self.shares.items():
            _check_share(f"surface_shares of {surface}", share)
        for name in ("queue", "noise_budget", "noise_waiting"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"comparison.{name} must be at least 1, got {getattr(self, name)}")
        if self.bytes < _LEAST_BYTES:
            raise InvalidConfig(f"comparison.bytes must be at least {_LEAST_BYTES}, got {self.bytes}")
        for name in ("pairs_per_s", "noise_width", "age_s", "file_age_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidConfig(f"comparison.{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.noise_delay_s <= 600:
            raise InvalidConfig(
                f"comparison.noise_delay_s must be 0 to 600, since a pair waits so long; got {self.noise_delay_s}"
            )

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of compared calls, by surface. Raises InvalidConfig."""
        found: dict[str, float] = {}
        for entry in _names(self.surface_shares):
            surface, equals, share = entry.rpartition("=")
            try:
                found[surface.strip()] = float(share)
            except ValueError:
                equals = ""
            if not equals or not surface.strip():
                raise InvalidConfig(
                    "comparison.surface_shares must be surface=share, several with commas, such as feed=0.05; "
                    f"got {entry!r}"
                )
        return found

    @property
    def slice_features(self) -> tuple[str, ...]:
        """The names in `features`."""
        return _names(self.features)

    @property
    def omitted(self) -> tuple[str, ...]:
        """The names in `omit`."""
        return _names(self.omit)


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise InvalidConfig(f"comparison.{name} must be 0 to 1, got {share}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
