from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from meshfold.model.errors import InvalidData
from meshfold.model.import_path import module_at

NAME = "towers_of_a_test"
SOURCE = """
from torch import nn

class Tower(nn.Module):
    pass

class Needs(nn.Module):
    def __init__(self, dimension):
        super().__init__()

module = Tower()

class inner:
    made = Tower

def make():
    return Tower()

def fails():
    raise OSError("no checkpoint")

def other():
    nn.Linear(3, 3).load_state_dict({})

def number():
    return 3

text = "tower"
"""


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package in the working folder, forgotten after the test."""
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "__init__.py").write_text("")
    (tmp_path / NAME / "towers.py").write_text(SOURCE)
    (tmp_path / NAME / "broken.py").write_text("import no_such_module_of_a_test")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.mark.parametrize("attribute", ["Tower", "module", "make", "inner.made"])
def test_a_module_and_what_gives_one(attribute: str) -> None:
    found = module_at(f"{NAME}.towers:{attribute}")
    assert isinstance(found, nn.Module)
    assert type(found).__name__ == "Tower"


def test_a_module_is_the_object_that_is_named() -> None:
    assert module_at(f"{NAME}.towers:module") is module_at(f"{NAME}.towers:module")


def test_a_file_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME / "beside.py").write_text("from towers import Tower\nmade = Tower()\n")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    monkeypatch.delitem(sys.modules, "towers", raising=False)
    for path in (
        f"../{NAME}/towers.py:Tower",
        f"{tmp_path}/{NAME}/towers.py:inner.made",
        f"../{NAME}/beside.py:made",
    ):
        assert type(module_at(path)).__name__ == "Tower"
    assert module_at(f"../{NAME}/towers.py:module") is module_at(f"{tmp_path}/{NAME}/towers.py:module")
    monkeypatch.delitem(sys.modules, "towers")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.py:x", "FileNotFoundError: .*missing.py"),
        (f"{NAME}/broken.py:x", "ModuleNotFoundError: No module named 'no_such_module_of_a_test'"),
        (f"{NAME}/towers.py:missing", "AttributeError: .*missing"),
    ],
)
def test_a_file_that_gives_no_module_is_refused(path: str, message: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidData, match=f"^{path}.*{message}"):
            module_at(path)


def test_the_working_folder_is_looked_in_first(tmp_path: Path) -> None:
    module_at(f"{NAME}.towers:make")
    assert sys.path[0] == str(tmp_path)
    module_at(f"{NAME}.towers:make")
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize("path", ["", ":", "towers", "towers:", ":tower", "towers.tower"])
def test_what_is_no_import_path(path: str) -> None:
    with pytest.raises(InvalidData, match="is no import path; write package.module:name"):
        module_at(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module_of_a_test:x", "ModuleNotFoundError: No module named 'no_such_module_of_a_test'"),
        (f"{NAME}.broken:x", "ModuleNotFoundError: No module named 'no_such_module_of_a_test'"),
        (f"{NAME}.towers:missing", "AttributeError: .*missing"),
        (f"{NAME}.towers:inner.missing", "AttributeError: .*missing"),
        (f"{NAME}.towers:fails", "OSError: no checkpoint"),
        (
            f"{NAME}.towers:other",
            r"RuntimeError: Error.* loading state_dict for Linear:; Missing key.*weight",
        ),
        (f"{NAME}.towers:Needs", "TypeError: .*dimension"),
        (f"{NAME}.towers:text", "TypeError: 'str' object is not callable"),
        (f"{NAME}.towers:number", "gives int; expected a torch.nn.Module"),
        (f".{NAME}:x", "TypeError: .*relative"),
        (f"{NAME}.towers:make:more", "AttributeError"),
    ],
)
def test_what_gives_no_module_is_refused(path: str, message: str) -> None:
    with pytest.raises(InvalidData, match=f"^{path}.*{message}"):
        module_at(path)
