"""The model of `meshfold run`: trained once, and kept while its inputs stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import meshfold.model
from meshfold.commands import console
from meshfold.commands.train import show, tell_doubts, train_data
from meshfold.model.errors import InvalidData
from meshfold.model.release import own_version
from meshfold.model.store import sync_folder
from meshfold.model.train.config import OverArchKind, TrainConfig

if TYPE_CHECKING:
    from meshfold.model.data.source import Source
    from meshfold.model.progress import Progress

_STEP_BYTES = 1 << 22
# An OverArch learns from users with three interactions or more, and needs this many.
_OVER_ARCH_USERS = 20


def trained_model(data: Path, source: Source, home: Path, progress: Progress) -> Path:
    """The folder of a model of the data, below `home`. Trains one, unless the kept one had the same inputs: the same
    bytes of data, the same settings and the same code.

    source: the opened data. Raises InvalidData or InvalidConfig.
    """
    home.mkdir(parents=True, exist_ok=True)
    folder, mark = home / "model", home / "model.json"
    config = _config(source)
    inputs = hash_of_inputs(data, config, progress)
    if inputs_of_kept(folder, mark) == inputs:
        console.print(f"{folder}: kept from before; data, settings and version are the same")
        return folder
    if mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        mark.unlink()
        sync_folder(home)
    metrics = train_data(data, folder, config, progress)
    tell_doubts(metrics)
    show(metrics)
    # Data that was written meanwhile is not what the mark would say.
    if hash_of_inputs(data, config, progress) == inputs:
        _write(mark, json.dumps({"inputs": inputs, "files": _hashes(folder)}, indent=1))
    return folder


def _config(source: Source) -> TrainConfig:
    """The defaults, without an OverArch where too few users could teach and judge it."""
    interactions = source.interactions()
    taught = 0 if interactions is None else int((np.diff(interactions.user_offsets) >= 3).sum())
    return TrainConfig(over_arch=OverArchKind.MLP if taught >= _OVER_ARCH_USERS else OverArchKind.NONE)


def hash_of_inputs(data: Path, config: TrainConfig, progress: Progress) -> str:
    """A hash of all that a model is made from: data, settings, torch and this package's own code."""
    from meshfold.model.data.source import input_files

    files = input_files(data)
    total = sum(file.stat().st_size for file in files)
    facts = [
        config.to_json(),
        own_version(),
        version("torch"),
        _hash_of_code(),
        [_name(data, f) for f in files],
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    done = 0
    for file in files:
        try:
            with file.open("rb") as read:
                digest.update(os.fstat(read.fileno()).st_size.to_bytes(8, "little"))
                while part := read.read(_STEP_BYTES):
                    digest.update(part)
                    done += len(part)
                    progress("comparing", done, max(done, total))
        except OSError as fault:
            raise InvalidData(f"{file}: cannot be read: {fault.strerror}") from fault
    return digest.hexdigest()


def _hash_of_code() -> str:
    digest = hashlib.sha256()
    root = Path(str(meshfold.model.__file__)).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _name(data: Path, file: Path) -> str:
    """A file's name below the data, for folders may say what rows hold."""
    return os.path.relpath(file, data if data.is_dir() else data.parent)


def inputs_of_kept(folder: Path, mark: Path) -> str | None:
    """The inputs of the kept model; None where it, or what is noted of it, is not whole."""
    try:
        noted = json.loads(mark.read_text(encoding="utf-8"))
        if noted["files"] == _hashes(folder):
            return str(noted["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)
