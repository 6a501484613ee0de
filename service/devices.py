"""Devices of this machine that a model can run on, by name."""

from __future__ import annotations

import torch

from meshfold.model.errors import InvalidConfig
from meshfold.service.extras import need


def devices_of(names: str) -> list[torch.device]:
    """The devices of comma-separated names. Raises InvalidConfig as device_of does."""
    return [device_of(name.strip()) for name in names.split(",")]


def device_of(name: str) -> torch.device:
    """The device of a name. Raises InvalidConfig where no model can run on it here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InvalidConfig(f"device must be cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise InvalidConfig(
                f"device {name}: torch {torch.__version__} finds {found} GPUs here; install a build of torch"
                " for CUDA and a driver, or use --device cpu"
            )
        need("gpu", f"device {name}")
    return device
