"""The model of `meshfold run`: trained once, and kept while data, settings and code stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

import meshfold.model
from meshfold.model.data.source import Source, input_files, open_source
from meshfold.model.errors import InvalidData
from meshfold.model.progress import Progress
from meshfold.model.release import own_version
from meshfold.model.store import sync_folder
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.metrics import Metrics
from meshfold.model.train.training import train

_STEP_BYTES = 1 << 22
# Users with three interactions or more that an OverArch needs.
_OVER_ARCH_USERS = 20


@dataclass(frozen=True)
class KeptModel:
    """A model folder. metrics: of its training, None where an earlier run trained it."""

    folder: Path
    metrics: Metrics | None


def trained_model(data: Path, source: Source, home: Path, progress: Progress) -> KeptModel:
    """The model of the data, in a folder below `home`.

    Trains it, unless the kept model was made from the same bytes of data, the same settings and the same code.
    source: the data at that path; it decides the settings. Raises InvalidData or InvalidConfig.
    """
    home.mkdir(parents=True, exist_ok=True)
    folder, mark = home / "model", home / "model.json"
    config = _config(source)
    inputs = hash_of_inputs(data, config, progress)
    if inputs_of_kept(folder, mark) == inputs:
        return KeptModel(folder, None)
    if mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        mark.unlink()
        sync_folder(home)
    # Data is opened after it was hashed, and hashed again after the training. A change in between leaves no mark, so
    # that the next run trains anew.
    metrics = train(open_source(data), folder, config, progress)
    if hash_of_inputs(data, config, progress) == inputs:
        _write(mark, json.dumps({"inputs": inputs, "files": _hashes(folder)}, indent=1))
    return KeptModel(folder, metrics)


def _config(source: Source) -> TrainConfig:
    """The default settings, without an OverArch below _OVER_ARCH_USERS users."""
    interactions = source.interactions()
    users = 0 if interactions is None else int((np.diff(interactions.user_offsets) >= 3).sum())
    return TrainConfig(over_arch=OverArchKind.MLP if users >= _OVER_ARCH_USERS else OverArchKind.NONE)


def hash_of_inputs(data: Path, config: TrainConfig, progress: Progress) -> str:
    """The hash of data, settings, torch's version and this package's own code."""
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
    """The path of a file below the data, for names of folders can hold values of columns."""
    return os.path.relpath(file, data if data.is_dir() else data.parent)


def inputs_of_kept(folder: Path, mark: Path) -> str | None:
    """The hash of the inputs of the kept model; None where the model or its mark is missing or damaged."""
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
