from typing import Any

import pytest

from meshfold.model.errors import InvalidConfig
from meshfold.model.train.config import TrainConfig


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dimension": 0}, "dimension must be an integer between 1 and 1024, got 0"),
        ({"steps": 1.5}, "steps must be an integer"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"hidden": ()}, "hidden must be 1 to 8 widths"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda"),
        ({"over_arch": "deep"}, "over_arch must be one of mlp, mol, none"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        TrainConfig(**changed)
