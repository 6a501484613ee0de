"""What the server's room must not know."""

import re
from pathlib import Path

ROOM = Path(__file__).parent.parent.parent / "service"
OF_THE_REFERENCE_MESH = re.compile(
    r"faiss|pyroaring|\bcompat\b|mesh (up|run)\b|reference mesh", re.IGNORECASE
)


def test_no_module_of_the_server_mentions_the_reference_mesh() -> None:
    modules = list(ROOM.rglob("*.py"))
    assert modules
    found = [
        f"{path.name}: {line.strip()}"
        for path in modules
        for line in path.read_text().splitlines()
        if OF_THE_REFERENCE_MESH.search(line)
    ]
    assert found == []
