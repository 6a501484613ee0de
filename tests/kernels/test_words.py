"""Words that kernels do not use: riddles in comments, and second names for one thing."""

from __future__ import annotations

import re
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
# Riddles, then names: max_results, candidates, scale and prefetch are the words.
REFUSED = (
    *(
        r"so many\b",
        r"in vain",
        r"had better",
        r"of those that",
        r"(is|are) asked for",
        r"whom\b",
        r"who has\b",
    ),
    *(r"ask_for", r"ask_soon", r"lookahead", r"query_units?\b", r"centroid_units?\b", r"filter_program"),
)


def test_kernels_say_it_plainly_and_in_one_word() -> None:
    sources = [path for path in KERNELS.rglob("*") if path.suffix in (".py", ".cpp", ".h")]
    assert len(sources) > 100
    found = [
        f"{path.relative_to(KERNELS)}:{number}: {line.strip()}"
        for path in sources
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search("|".join(REFUSED), line, re.IGNORECASE)
    ]
    assert found == []
