"""Commands tell a missing extra before their work: each is tried in a process that cannot import it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from meshfold.commands.__main__ import main
from meshfold.compat.mesh.settings import MODULES
from meshfold.model.errors import InvalidConfig
from meshfold.service import extras

ROOT = Path(__file__).parent.parent.parent
WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from meshfold.commands.__main__ import main
sys.exit(main({argv!r}))
"""


@pytest.mark.parametrize(
    ("argv", "missing", "extra"),
    [
        (["mesh", "up", "--store", "nowhere"], ["faiss"], "mesh"),
        (["mesh", "up", "--store", "nowhere"], ["pyroaring"], "mesh"),
        (["mesh", "run", "retrieval", "--store", "nowhere"], ["faiss"], "mesh"),
        (["mesh", "run", "retrieval", "--store", "nowhere"], ["pyroaring"], "mesh"),
        (["evaluate", "nowhere", "nothing", "--out", "rows"], ["matplotlib"], "plot"),
    ],
)
def test_a_missing_extra_is_told_before_anything_is_read(
    tmp_path: Path, argv: list[str], missing: list[str], extra: str
) -> None:
    code = WITHOUT.format(missing=missing, argv=argv)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("meshfold: ")
    assert missing[0] in run.stderr
    assert f"pip install 'meshfold[{extra}]'" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_extra_that_is_broken_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a_broken_module_of_a_test.py").write_text("import no_such_module_of_a_test")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(extras.EXTRAS, "plot", ("a_broken_module_of_a_test",))
    with pytest.raises(InvalidConfig, match="No module named 'no_such_module_of_a_test'"):
        extras.need("plot", "--out")


def test_what_is_installed_is_no_error() -> None:
    pytest.importorskip("matplotlib")
    extras.need("plot", "--out")


def test_extras_are_those_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.EXTRAS.keys() <= declared.keys()
    names = {"faiss": "faiss-cpu"}
    for extra, modules in {**extras.EXTRAS, "mesh": MODULES}.items():
        needed = " ".join(declared[extra])
        assert all(names.get(module, module) in needed for module in modules)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:0,cuda:1"])
def test_a_gpu_without_triton_is_told_before_a_snapshot_is_read(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    from meshfold.service.devices import devices_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(InvalidConfig, match=r"needs triton.*pip install 'meshfold\[gpu\]'"):
        devices_of(device)


def test_a_build_on_a_gpu_without_triton_is_told_before_data_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert main(["build", str(tmp_path), "--store", str(tmp_path / "store"), "--device", "cuda"]) == 1
    assert "--device cuda needs triton" in capsys.readouterr().err
