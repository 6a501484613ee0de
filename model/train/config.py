"""Settings of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from meshfold.model.errors import InvalidConfig


class OverArchKind(StrEnum):
    MLP = "mlp"
    MOL = "mol"  # mixture of logits
    NONE = "none"


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `meshfold train`.

    dimension: length of the vectors; data with fewer users or items than that gets fewer.
    seed: of all random numbers.
    held_out: share of each user's latest interactions kept for the test, and of the rest for validation.
    steps: limit of training steps of the towers.
    batch_size: examples a step.
    targets: limit of targets an example.
    window_share: length of the interval after the history that gives the targets, as a share of the history.
    negatives: items drawn a step; a catalog with no more items is used whole.
    learning_rate: of the towers, whose item vectors have a mean length of 1.
    validate_every: steps between validations.
    patience: validations without an improvement that end training.
    candidates: items from the index for each example of OverArch.
    hidden: widths of OverArch's layers.
    device: auto, cpu or cuda.
    threads: of the CPU; another number changes the last bits of the result.
    """

    dimension: int = 64
    seed: int = 0
    held_out: float = 0.2
    steps: int = 400
    batch_size: int = 256
    targets: int = 32
    window_share: float = 0.25
    negatives: int = 2048
    learning_rate: float = 4e-4
    validate_every: int = 20
    patience: int = 5
    over_arch: OverArchKind = OverArchKind.MLP
    hidden: tuple[int, ...] = (256, 128, 64)
    candidates: int = 1024
    over_arch_steps: int = 200
    over_arch_batch_size: int = 16
    over_arch_learning_rate: float = 2e-4
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("dimension", 1, 1024),
            ("seed", 0, 2**63 - 1),
            ("held_out", 0.01, 0.5),
            ("steps", 0, 1_000_000),
            ("batch_size", 1, 65_536),
            ("targets", 1, 1024),
            ("window_share", 0.001, 1000.0),
            ("negatives", 1, 1_000_000),
            ("learning_rate", 1e-8, 1.0),
            ("validate_every", 1, 1_000_000),
            ("patience", 1, 1_000_000),
            ("candidates", 1, 100_000),
            ("over_arch_steps", 0, 1_000_000),
            ("over_arch_batch_size", 1, 65_536),
            ("over_arch_learning_rate", 1e-8, 1.0),
            ("threads", 1, 1024),
        ):
            value = getattr(self, name)
            whole = isinstance(low, int)
            if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:
                kind = "an integer" if whole else "a number"
                raise InvalidConfig(f"{name} must be {kind} between {low} and {high}, got {value!r}")
        if not self.hidden or len(self.hidden) > 8 or not all(1 <= width <= 8192 for width in self.hidden):
            raise InvalidConfig(f"hidden must be 1 to 8 widths between 1 and 8192, got {self.hidden}")
        if self.device not in ("auto", "cpu") and not self.device.startswith("cuda"):
            raise InvalidConfig(f"device must be auto, cpu or cuda, got {self.device!r}")
        if self.over_arch not in list(OverArchKind):
            kinds = ", ".join(OverArchKind)
            raise InvalidConfig(f"over_arch must be one of {kinds}, got {self.over_arch!r}")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "over_arch": str(self.over_arch), "hidden": list(self.hidden)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError, ValueError or InvalidConfig where `raw` is not what to_json gives."""
        values = {f.name: raw[f.name] for f in fields(cls)}
        return cls(**values | {"over_arch": OverArchKind(raw["over_arch"]), "hidden": tuple(raw["hidden"])})
