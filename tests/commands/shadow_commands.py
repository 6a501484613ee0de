"""`meshfold shadow` as tests call it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshfold.commands.__main__ import main
from meshfold.compat.shadow.report.as_json import from_json


def shadow(*words: object) -> int:
    return main(["shadow", *map(str, words)])


def compared(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> Any:
    """The comparison that `meshfold shadow compare` prints."""
    assert shadow("compare", *words, "--json") == status
    return from_json(json.loads(capsys.readouterr().out))


def line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    lines = [one for one in error.splitlines() if one.startswith("meshfold: ")]
    assert len(lines) == 1
    assert "Traceback" not in error
    return lines[0]
