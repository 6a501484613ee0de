"""What a machine without a GPU, and without triton, must not need."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from importlib import import_module
from pkgutil import walk_packages

if {missing}:
    sys.modules["triton"] = None

import torch
import meshfold.kernels, meshfold.model

names = [m.name for p in (meshfold.kernels, meshfold.model) for m in walk_packages(p.__path__, p.__name__ + ".")
         if not m.name.startswith(("meshfold.kernels.gpu", "meshfold.kernels._native"))]
for name in names:
    import_module(name)
assert len(names) > 60, names
assert "meshfold.kernels.search.rescore" in names
assert not any(name.startswith(("triton.", "meshfold.kernels.gpu.")) for name in sys.modules)
assert sys.modules.get("triton") is None
assert not torch.cuda.is_initialized()

from meshfold.kernels.vectors.quantize import quantize

assert quantize(torch.ones(2, 3)).codes.tolist() == [[127] * 3] * 2
assert not any(name.startswith("meshfold.kernels.gpu.") for name in sys.modules)
"""


@pytest.mark.parametrize("missing", [False, True])
def test_kernels_and_model_import_no_triton_and_start_no_device(missing: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(missing=missing)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
