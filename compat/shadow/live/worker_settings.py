"""The settings sent to the comparing process at its start."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from meshfold.compat.key import LEAST_BYTES, KeyedHash, read_key
from meshfold.compat.shadow.pair_limits import PairLimits
from meshfold.compat.shadow.pair_redaction import PairRedaction
from meshfold.service.comparison import ComparisonConfig


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of the comparing process. key: of hashed ids, in hexadecimal digits; the same in every run of the
    process. mappings: files of callers' own protocols."""

    folder: str
    most_bytes: int
    age_s: float
    file_age_s: float
    keep_requests: bool
    omit: tuple[str, ...]
    features: tuple[str, ...]
    key: str
    store: str
    mappings: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: ComparisonConfig, store: Path, mappings: Sequence[str] = ()) -> Self:
        """The settings made from the server's. Raises InvalidConfig where the key file cannot be read or `omit` has an
        unknown name."""
        key = read_key(Path(config.key_file)) if config.key_file else secrets.token_bytes(LEAST_BYTES)
        settings = cls(
            folder=config.folder,
            most_bytes=config.bytes,
            age_s=config.age_s,
            file_age_s=config.file_age_s,
            keep_requests=config.keep_requests,
            omit=config.omitted,
            features=config.slice_features,
            key=key.hex(),
            store=str(store),
            mappings=tuple(mappings),
        )
        settings.redaction()
        return settings

    def to_json(self) -> Mapping[str, Any]:
        """The settings as JSON."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        lists = {name: tuple(values[name]) for name in ("omit", "features", "mappings")}
        return cls(**{**values, **lists})

    @property
    def keyed(self) -> KeyedHash:
        return KeyedHash(bytes.fromhex(self.key))

    @property
    def limits(self) -> PairLimits:
        return PairLimits(file_age_s=self.file_age_s, bytes=self.most_bytes, age_s=self.age_s)

    def redaction(self) -> PairRedaction:
        """The redaction of pairs. Raises InvalidConfig."""
        return PairRedaction(self.keyed, self.keep_requests, self.omit)
