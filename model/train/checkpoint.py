"""Checkpoints of a training on disk. After a kill at any moment a training continues from the newest one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.store import sync_folder

_FINGERPRINT, _LOCK = "fingerprint", "lock"
_SUFFIX = ".safetensors"


class Checkpoints:
    """A folder of named checkpoints that belong to one config and one set of data.

    A checkpoint is one file of tensors with its state as JSON in the header. It is written beside the one before,
    synced, and renamed over it, so that a file is never partial.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, fingerprint: str) -> Self:
        """Locks the folder, and removes checkpoints of another fingerprint.

        fingerprint: identifies config and data. Raises InvalidConfig where another process trains there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder / _LOCK)
        mark = folder / _FINGERPRINT
        if not mark.is_file() or mark.read_text() != fingerprint:
            for old in folder.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
                elif old.name != _LOCK:
                    old.unlink()
            _replace(mark, fingerprint.encode())
        return cls(folder, lock)

    def save(self, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint of that name. state: values that JSON can hold."""
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        _replace(self.folder / f"{name}{_SUFFIX}", save(on_cpu, {"state": json.dumps(state, sort_keys=True)}))

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The (tensors, state) of the checkpoint of that name, or None. Raises InvalidData for broken files."""
        path = self.folder / f"{name}{_SUFFIX}"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["state"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InvalidData(
                f"{path}: is no readable checkpoint ({error}); remove {self.folder} to train anew"
            ) from error

    def close(self) -> None:
        """Releases the lock, so that another process can train there."""
        os.close(self._lock)

    def remove(self) -> None:
        """Removes the folder after the training."""
        shutil.rmtree(self.folder)


def _locked(path: Path) -> int:
    """The descriptor of a lock that the operating system releases when the process ends."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InvalidConfig(
            f"{path.parent}: another process is training there; wait for it or name another --out"
        ) from None
    return descriptor


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)
