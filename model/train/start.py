"""The model that a training continues from: `meshfold train --from MODEL`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from meshfold.model.errors import InvalidConfig, InvalidData
from meshfold.model.schema import Schema
from meshfold.model.snapshot import ITEM_TOWER
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.model.train.model_folder import METRICS, VECTORS, WEIGHTS
from meshfold.model.train.over_arch import OverArch, new_over_arch
from meshfold.model.train.towers import UserTower
from meshfold.model.train.trained_schema import SCHEMA, check_schema

# Settings of the model that a training from it must keep.
_KEPT = ("dimension", "held_out", "over_arch", "hidden")
_USER, _OVER_ARCH, _UNTAUGHT = "user.", "over_arch.", "untaught."
# Default steps of the towers. On MovieLens with a tenth of the interactions new, NDCG@50 rises from 0.203 to 0.206 in
# 20 steps and to 0.209 in 150.
STEPS = 100


@dataclass(frozen=True, eq=False)
class Start:
    """A model to continue from.

    folder: of the model. config: settings of its training. tensors: weights of its user tower and OverArch. digest:
    hash of the files that a training reads.
    """

    folder: Path
    config: TrainConfig
    tensors: Mapping[str, Tensor]
    digest: str

    @classmethod
    def read(cls, folder: Path, schema: Schema) -> Self:
        """Raises InvalidData where the folder holds no model of the schema's surface, tasks and fields."""
        if not (folder / WEIGHTS).is_file() or not (folder / METRICS).is_file():
            raise InvalidData(
                f"{folder}: holds no {WEIGHTS} and {METRICS} to start from; name a folder that `meshfold train` wrote,"
                " or train without --from"
            )
        try:
            config = TrainConfig.from_json(
                json.loads((folder / METRICS).read_text("utf-8"))["training"]["config"]
            )
            with safe_open(folder / WEIGHTS, framework="pt") as file:
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"{folder}: cannot be started from ({error}); train without --from") from error
        # The new user tower is exported for the inputs of the new schema, so inputs may differ.
        check_schema(folder, schema, "train without --from", inputs=False)
        if f"{_UNTAUGHT}{_USER}" not in tensors:
            raise InvalidData(f"{folder}: was written by an earlier version; train without --from")
        digest = hashlib.sha256()
        for name in (METRICS, WEIGHTS, VECTORS, ITEM_TOWER):
            digest.update((folder / name).read_bytes() if (folder / name).is_file() else b"")
        return cls(folder, config, tensors, digest.hexdigest())

    @property
    def dimension(self) -> int:
        """Length of the vectors; smaller than config.dimension for tiny data."""
        return int(self.tensors[f"{_USER}by_content"].shape[-1])

    def configured(self, config: TrainConfig) -> TrainConfig:
        """The config with the model's own settings of _KEPT, and STEPS in place of the default steps.

        Raises InvalidConfig where the config sets one of _KEPT to neither its default nor the model's value.
        """
        default = TrainConfig()
        for name in _KEPT:
            given, trained = getattr(config, name), getattr(self.config, name)
            if given not in (trained, getattr(default, name)):
                flag = name.replace("_", "-")
                raise InvalidConfig(
                    f"--{flag} {given}: the model that --from names has {trained}, which stays; leave --{flag} out, or"
                    " train without --from"
                )
        steps = STEPS if config.steps == default.steps else config.steps
        return replace(config, steps=steps, **{name: getattr(self.config, name) for name in _KEPT})

    def load_user_tower(self, tower: UserTower) -> None:
        """Loads the model's weights into the tower. Raises InvalidData where shapes differ."""
        self._load(_USER, tower)
        tower.untaught = self._untaught(_USER)

    def over_arch(self, tasks: int, device: torch.device) -> OverArch | None:
        """The model's OverArch, or None. Raises InvalidData where shapes differ."""
        config = self.config
        if config.over_arch is OverArchKind.NONE:
            return None
        module = new_over_arch(config.over_arch, tasks, self.dimension, config.hidden, config.seed)
        self._load(_OVER_ARCH, module)
        module.untaught = self._untaught(_OVER_ARCH)
        return module.to(device).eval()

    def _untaught(self, prefix: str) -> tuple[int, ...]:
        return tuple(self.tensors[f"{_UNTAUGHT}{prefix}"].tolist())

    def _load(self, prefix: str, module: nn.Module) -> None:
        state = {k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InvalidData(
                f"{self.folder / WEIGHTS}: does not fit the model ({reason}); train without --from"
            ) from error


def packed_weights(schema: Schema, user: UserTower, over_arch: OverArch | None) -> bytes:
    """The bytes of WEIGHTS: weights for Start.read, and the schema of the training (trained_schema.py)."""
    modules: dict[str, UserTower | OverArch] = {_USER: user}
    if over_arch is not None:
        modules[_OVER_ARCH] = over_arch
    tensors: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        tensors |= {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}
        tensors[f"{_UNTAUGHT}{prefix}"] = torch.tensor(module.untaught, dtype=torch.int64)
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(on_cpu, {SCHEMA: json.dumps(schema.to_json(), sort_keys=True)})
