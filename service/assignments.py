"""Settings of the assignment log, which records for each user whether mesh or model answered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from meshfold.model.errors import InvalidConfig

_LEAST_BYTES = 1 << 20


@dataclass(frozen=True)
class AssignmentsConfig:
    on: Annotated[bool, "whether the log records which side answered which user"] = False
    folder: Annotated[str, "folder of the files"] = ".meshfold/assignments"
    bytes: Annotated[int, "most bytes of all files; the oldest are deleted"] = 1 << 30
    age_s: Annotated[float, "seconds after which a file is deleted"] = 90 * 86_400.0
    key_file: Annotated[
        str, "file with the key of hashed ids, the same on every server; required while the log is on"
    ] = ""

    def __post_init__(self) -> None:
        if self.bytes < _LEAST_BYTES:
            raise InvalidConfig(f"assignments.bytes must be at least {_LEAST_BYTES}, got {self.bytes}")
        if not 0 < self.age_s < math.inf:
            raise InvalidConfig(f"assignments.age_s must be above 0, got {self.age_s}")
