"""How far a training came, on disk: after a kill at any moment it goes on from the newest checkpoint."""

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

    A checkpoint is one file of tensors with its state as JSON in the header, and replaces the one before it
    by one rename after it was synced: what is there is whole.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, fingerprint: str) -> Self:
        """What another config or other data left behind is removed.

        Raises InvalidConfig where another process trains there.
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
        """state: what JSON holds."""
        held = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        _replace(self.folder / f"{name}{_SUFFIX}", save(held, {"state": json.dumps(state, sort_keys=True)}))

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved last under the name, None where nothing was. Raises InvalidData for broken files."""
        path = self.folder / f"{name}{_SUFFIX}"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["state"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise InvalidData(
                f"{path}: no checkpoint ({error}); remove {self.folder} to train anew"
            ) from error

    def close(self) -> None:
        """Lets another process train there."""
        os.close(self._lock)

    def remove(self) -> None:
        """When all is done."""
        shutil.rmtree(self.folder)


def _locked(path: Path) -> int:
    """A lock that ends with the process, however it ends."""
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
