"""Where the GPU's kernels are tested: on a GPU where there is one, under Triton's interpreter where there is none."""

import os
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    """What a test's tensors are made on."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed: pip install 'meshfold[gpu]'")
    if os.environ.get("TRITON_INTERPRET") == "1":
        # Before 3.7 the interpreter takes int() of an array with one element, which NumPy 2.4 refuses.
        if _release("triton") < (3, 7) and _release("numpy") >= (2, 4):
            pytest.skip("the interpreter of triton before 3.7 needs a NumPy before 2.4")
        return torch.device("cpu")
    return torch.device("cuda")


def _release(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(package).split(".")[:2])
