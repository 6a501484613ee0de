"""What docs/models.md shows runs as it stands there, from any folder."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# Less work for the same way.
FEWER = {
    "train": ("--steps", "2", "--over-arch-steps", "2"),
    "evaluate": ("--users", "5", "--candidates", "128"),
}
PAGE = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The arguments of each `meshfold` command of a block."""
    lines = block.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in found if words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's data and the page's module, far from the repository."""
    made = tmp_path_factory.mktemp("anywhere")
    shutil.copytree(REPOSITORY / "examples" / "shop", made / "shop")
    (source,) = blocks("python")
    (made / "towers.py").write_text(source)
    return made


def test_the_commands_of_the_page_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # `evaluate --out` draws.
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(folder)
    every = [command for block in blocks("sh") for command in commands(block)]
    assert [command[0] for command in every] == ["train", "build", "build", "inspect", "evaluate"]
    for command in every:
        assert main([*command, *FEWER.get(command[0], ())]) == 0, command
        shown = capsys.readouterr().out
        if command[0] == "inspect":
            assert all(
                name in shown for name in ("user_tower", "item_tower", "over_arch", "country", "colours")
            )
    assert (folder / "evaluation" / "rows.jsonl").is_file()


def test_the_listwise_example_is_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    towers = [
        f"--{name}=towers.py:{made}" for name, made in (("item-tower", "Item"), ("over-arch", "ListRank"))
    ]
    assert main(["build", "shop", "--store", "lists", *towers, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["signatures"]["over_arch"]["listwise"] == 512
    assert told["recall"]
