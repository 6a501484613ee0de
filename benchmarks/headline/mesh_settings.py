"""The settings of the mesh that is compared: those that were best in a sweep (mesh_sweep.py)."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.rows import RESULTS, newest_rows

SWEPT = "headline_mesh"


@dataclass(frozen=True)
class MeshSettings:
    """threads: of one operation. workers: requests at once, of each service. replicas: processes of retrieval and of
    scoring each, which the orchestrator asks in turn, over a channel each."""

    threads: int = 1
    workers: int = 1
    replicas: int = 1

    def flags(self) -> tuple[str, ...]:
        """Flags of `meshfold mesh run`."""
        return (f"--threads={self.threads}", f"--workers={self.workers}")

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.workers} workers, {self.replicas} replicas"


def best() -> MeshSettings:
    """The settings with the highest rate in the newest sweep; the defaults without a sweep."""
    if not (RESULTS / f"{SWEPT}.jsonl").exists():
        return MeshSettings()
    row = max(newest_rows(SWEPT), key=lambda row: (row.figures["rate_hz"], row.figures["saturated_hz"]))
    return MeshSettings(*(row.config[name] for name in ("threads", "workers", "replicas")))
