"""docs/hydration.md says what the settings and the metrics are."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from meshfold.compat.hydration.settings import SOURCES, Settings
from meshfold.compat.hydration.source import Reason

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "hydration.md").read_text()


def test_every_setting_is_on_the_page_with_its_default() -> None:
    for f in fields(Settings):
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        told = default if isinstance(default, str) else json.dumps(default)
        shown = f"`{told}`" if told else ""
        assert re.search(rf"^\| `{f.name}` \| {re.escape(shown)} ?\| ", PAGE, re.MULTILINE), f.name
    assert all(f"`{name}`" in PAGE for name in SOURCES)


def test_every_reason_is_on_the_page() -> None:
    told = re.findall(
        r"^\| `(\w+)` \| .*$", PAGE.partition("| `reason` |")[2].partition("##")[0], re.MULTILINE
    )
    assert told == [reason.value for reason in Reason]
