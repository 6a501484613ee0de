"""The settings of the mesh that is compared: the best of a sweep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeshSettings:
    """threads: of one operation. workers: batches at once, of each service."""

    threads: int = 1
    workers: int = 1

    def flags(self) -> tuple[str, ...]:
        """Of `meshfold mesh up`."""
        return (f"--threads={self.threads}", f"--workers={self.workers}")


BEST = MeshSettings()
