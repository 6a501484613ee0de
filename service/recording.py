"""Settings of the recording of requests and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from meshfold.model.errors import InvalidConfig

USER_IDS = ("hash", "omit", "keep")
PERSONAL = ("history", "features")
_LEAST_BYTES = 1 << 20


@dataclass(frozen=True)
class RecordingConfig:
    on: Annotated[bool, "whether calls are recorded from the start"] = False
    folder: Annotated[str, "folder of the files"] = ".meshfold/recorded"
    bytes: Annotated[int, "most bytes of all files; the oldest are deleted"] = 1 << 30
    age_s: Annotated[float, "seconds after which a file is deleted"] = 7 * 86_400.0
    user_ids: Annotated[str, "user ids in the files: hash, omit or keep"] = "hash"
    omit: Annotated[
        str, "other fields of users left out of the files: history, features, or both with a comma"
    ] = ""
    key_file: Annotated[
        str,
        "file with the key of hashed ids; where it is empty each start makes a random key, which changes all hashes",
    ] = ""
    queue: Annotated[int, "most records that wait to be written, in 64 MiB; more are dropped"] = 1024

    def __post_init__(self) -> None:
        if self.bytes < _LEAST_BYTES:
            raise InvalidConfig(f"recording.bytes must be at least {_LEAST_BYTES}, got {self.bytes}")
        if not self.age_s > 0:
            raise InvalidConfig(f"recording.age_s must be above 0, got {self.age_s}")
        if self.user_ids not in USER_IDS:
            raise InvalidConfig(
                f"recording.user_ids must be one of {', '.join(USER_IDS)}, got {self.user_ids!r}"
            )
        if not set(self.omitted) <= set(PERSONAL):
            raise InvalidConfig(f"recording.omit names {', '.join(PERSONAL)} or both, got {self.omit!r}")
        if self.queue < 1:
            raise InvalidConfig(f"recording.queue must be at least 1, got {self.queue}")

    @property
    def omitted(self) -> tuple[str, ...]:
        """The names in `omit`."""
        return tuple(name.strip() for name in self.omit.split(",") if name.strip())
