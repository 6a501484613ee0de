"""README and docs say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from meshfold.service.config import SETTINGS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    exec(compile(code, page, "exec"), {"__name__": "page"})


def test_the_readmes_python_is_short_and_needs_the_door_alone() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 12
    assert re.findall(r"import (\S+)", code) == ["meshfold", "numpy"]


def test_the_measured_tables_are_what_the_newest_rows_say() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.tables", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def test_every_setting_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for setting in SETTINGS.values():
        assert f"| `{setting.key}` | `{setting.default}` | {setting.meaning} |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """The names that links to headings of a page have."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text()):
        other = page.parent / target if target else page
        assert other.exists(), target
        assert anchor in anchors(other), f"{target}#{anchor}"


WORDS = ("mesh", "tower", "filter", "surface", "history", "overarch", "snapshot")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_explained_where_the_readme_first_uses_it(word: str) -> None:
    text = (ROOT / "README.md").read_text()
    links = [place.start() for place in re.finditer(rf"\[[^]]*\]\(docs/glossary\.md#{word}\)", text)]
    # Names in code, such as meshfold, are not the word.
    used = re.search(rf"(?<![\w`.-]){word}s?(?![\w`-])", text, re.IGNORECASE)
    assert links
    assert used is not None
    assert used.start() - 1 == links[0], text[used.start() - 20 : used.end() + 20]
    assert word in anchors(ROOT / "docs" / "glossary.md")
