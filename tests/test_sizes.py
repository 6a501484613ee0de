"""Files that are read in one sitting."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 400


def test_every_python_file_is_short() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # What a generator wrote is not read.
    own = [
        name for name in listed if not name.endswith(("_pb2.py", "_pb2_grpc.py")) and (ROOT / name).exists()
    ]
    lines = {name: len((ROOT / name).read_bytes().splitlines()) for name in own}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count >= MOST_LINES} == {}
