"""What docs/gate.md shows runs as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.gate.settings import settings_of
from meshfold.compat.shadow.audit import SnapshotAnswers
from meshfold.model.store import Store
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.compat.shadow.recordings import answer, record, write_records

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "gate.md").read_text(encoding="utf-8")
USERS = 450


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_settings_of_the_page_are_settings() -> None:
    import tomllib

    for block in blocks("toml"):
        assert settings_of(tomllib.loads(block)["gate"], "the page").margin > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a store of them and a recording."""
    made = tmp_path_factory.mktemp("pipeline")
    words = ("--items", "400", "--dimension", "16", "--users", "50", "--out", str(made / "shop"))
    assert main(["data", "generated", *words]) == 0
    assert main(["build", str(made / "shop"), "--store", str(made / "store")]) == 0
    [surface] = Store(made / "store").surfaces()
    answers, records = SnapshotAnswers(made / "store"), []
    for number in range(USERS):
        request = pb.RetrieveRequest(request_id=f"r{number}", surface=surface, max_results=10)
        request.user.user_id = number + 1
        request.user.history[:] = [int(item) for item in range(number % 40 + 1, number % 40 + 4)]
        asked = request.SerializeToString()
        found = answers.answer(asked).item_ids
        records.append(record(number, "mesh", answer(*found), asked, surface=surface))
    write_records(made / "recorded", *records)
    (made / "gate.toml").write_text(blocks("toml")[-1])
    return made


def pipeline(folder: Path) -> subprocess.CompletedProcess[str]:
    [script] = blocks("sh")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pipeline_publishes_what_passes_and_nothing_else(folder: Path) -> None:
    [surface] = Store(folder / "store").surfaces()
    before = Store(folder / "store").published(surface)
    # Nothing proves that so little is lost.
    (folder / "gate.toml").write_text(blocks("toml")[-1].replace("margin = 0.3", "margin = 0.000001"))
    ended = pipeline(folder)
    assert ended.returncode == 2, ended.stderr
    assert json.loads(ended.stdout[ended.stdout.index("{") :])["verdicts"][0]["decision"] == "not_enough"
    assert Store(folder / "store").published(surface) == before
    (folder / "gate.toml").write_text(blocks("toml")[-1])
    ended = pipeline(folder)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    after = Store(folder / "store").published(surface)
    assert len(after) == len(before) + 1
