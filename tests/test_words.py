"""Words that the code does not use: riddles and fragments in texts, and second names for one thing."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
# Riddles anywhere in a line.
RIDDLES = (
    r"so many\b",
    r"in vain",
    r"had better",
    r"of those that",
    r"(is|are) asked for",
    r"whom\b",
    r"who has\b",
)
# Second names in kernels: max_results, candidates, scale and prefetch are the words.
NAMES = (r"ask_for", r"ask_soon", r"lookahead", r"query_units?\b", r"centroid_units?\b", r"filter_program")
# Folders whose docstrings and comments begin with a noun or a verb.
PLAIN = ("service", "compat", "commands", "tools", "benchmarks", "model", "api")
# Openings without a noun of their own, and phrases that leave out who, what or how many.
OPENINGS = r"(Of|Those|What|Whoever|As) (?!is wrong\b|in\b)"
PHRASES = (
    *(
        r"\bso (many|long|much)\b",
        r"\bin vain\b",
        r"\bof those that\b",
        r"\bwhom\b",
        r"\bwhoever\b",
        r"\bnobody\b",
    ),
    *(r"\b(is|are) told\b", r"\b(is|are) asked\b", r"\basked for\b", r"\bas it came\b", r"\bsays? nothing\b"),
    *(r"\bwhat (is|are) (there|kept|held|left|wanted|asked|told|served|shown|written)\b", r"\bwhat waits\b"),
)

# Phrases that pages avoid. A mesh or a model may still be asked, and nobody may read an answer.
PAGE_PHRASES = tuple(each for each in PHRASES if each not in (r"\bnobody\b", r"\b(is|are) asked\b"))
# A sentence that begins with "Of X" instead of its subject.
FRONTED = r"(^|[.:|] )(Of|Whoever) "


def test_kernels_say_it_plainly_and_in_one_word() -> None:
    sources = [path for path in KERNELS.rglob("*") if path.suffix in (".py", ".cpp", ".h")]
    assert len(sources) > 100
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search("|".join((*RIDDLES, *NAMES)), line, re.IGNORECASE)
    ]
    assert found == []


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Each docstring of a file, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield node.body[0].lineno, text.strip()


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Each block of comments of a file as one text, with its first line."""
    first, last, block = 0, 0, ""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                line, text = token.start[0], token.string.lstrip("# ")
                if block and line != last + 1:
                    yield first, block
                    block = ""
                first, block = (first, f"{block} {text}") if block else (line, text)
                last = line
    if block:
        yield first, block


@pytest.mark.parametrize("folder", PLAIN)
def test_docstrings_and_comments_begin_with_a_noun_or_a_verb(folder: str) -> None:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for line, text in (*docstrings(path), *comments(path)):
            one_line = " ".join(text.split())
            if re.match(OPENINGS, one_line) or re.search("|".join(PHRASES), one_line, re.IGNORECASE):
                found.append(f"{name}:{line}: {one_line[:100]}")
    assert found == []


def test_pages_have_no_riddles() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [
        f"{page.name}:{number}: {line.strip()[:100]}"
        for page in pages
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if re.search("|".join((*RIDDLES, *PAGE_PHRASES)), line, re.IGNORECASE) or re.search(FRONTED, line)
    ]
    assert found == []
