"""The folder that a training writes and a build reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshfold.model.data.vector_file import write_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.store import sync_folder
from meshfold.model.train.metrics import Metrics
from meshfold.model.types import Float32s, Int64s

VECTORS, METRICS, WEIGHTS = "vectors.parquet", "metrics.json", "weights.safetensors"


def check_folder(folder: Path) -> None:
    """Raises InvalidData where the path is neither free, an empty folder nor a model folder."""
    if folder.exists() and not (folder / METRICS).is_file() and not _empty(folder):
        raise InvalidData(f"{folder}: exists and is no model folder; name another --out")
    if not folder.parent.is_dir():
        raise InvalidData(f"{folder.parent}: no such folder to write {folder.name} in; make it first")


def write_folder(
    folder: Path,
    partial: Path,
    item_ids: Int64s | Sequence[str],
    vectors: Float32s,
    files: Mapping[str, bytes],
    metrics: Metrics,
) -> None:
    """Writes a model folder beside its place and renames it, replacing an older one.

    vectors: [N, D] float32 of item_ids: [N] int64 or strings. files: programs and weights by name. partial: the folder
    to write first, on the same disk.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write_vectors(partial / VECTORS, item_ids, [vectors], vectors.shape[1])
    for name, data in files.items():
        (partial / name).write_bytes(data)
    (partial / METRICS).write_text(json.dumps(metrics.to_json(), indent=1) + "\n", encoding="utf-8")
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(partial)
    if folder.exists():
        old = partial.with_name(f"{partial.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)
    sync_folder(folder.parent)


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
