"""`meshfold shadow ui` as people run it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.request import Request

import pytest

from tests.waiting import wait_until

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from meshfold.commands.__main__ import main
from tests.compat.live_page.test_page_findings import pairs, write

__all__ = ["write"]


def test_a_folder_in_a_browser_until_the_command_is_ended(write: object, tmp_path: Path) -> None:
    place = write(pairs(30))  # type: ignore[operator]
    command = [sys.executable, "-m", "meshfold.commands", "shadow", "ui", str(place), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(rf"(http://127\.0\.0\.1:\d+)/shadow shows {place}", line)
            assert found, line
            url = found[1]

            def got(path: str) -> str:
                with urllib.request.urlopen(url + path, timeout=30) as answer:
                    text: str = answer.read().decode()
                    return text

            wait_until(lambda: "All 30 pairs of" in got("/shadow"))
            assert "shop is bad" in got("/")
            wait_until(
                lambda: "Examples" in json.loads(got("/shadow/parts.json?surface=shop"))["parts"][-1]["html"]
            )
            # Under a name that is not this machine's own.
            with pytest.raises(urllib.error.HTTPError, match="421"):
                urllib.request.urlopen(
                    Request(f"{url}/shadow", headers={"Host": "elsewhere.example"}), timeout=10
                )
            with pytest.raises(urllib.error.HTTPError, match="404"):
                got("/elsewhere")
        finally:
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["gone"], "gone is not there"),
        ([".", "--port", "70000"], "--port must be 0 to 65535, got 70000"),
        ([".", "--pairs", "0"], "--pairs must be 1 to 1000000, got 0"),
        (["."], "holds no files of pairs"),
        (["some/pairs.jsonl", "--store", "gone"], "gone holds no snapshot"),
    ],
)
def test_a_bad_command_line_is_told_in_one_line(
    flags: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "pairs.jsonl").touch()
    assert main(["shadow", "ui", *flags]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
