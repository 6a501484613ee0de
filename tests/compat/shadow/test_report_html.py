from __future__ import annotations

import math
import re
import stat
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from meshfold.compat.shadow.comparison import Comparison, Drift, Exposure, Interval, SurfaceComparison
from meshfold.compat.shadow.pairs import Pair
from meshfold.compat.shadow.report.html import render, write_html
from meshfold.compat.shadow.report.page import MOST_EXAMPLES, MOST_EXAMPLES_PER_SURFACE, MOST_SURFACES
from meshfold.compat.shadow.report.plots import plots_of
from meshfold.compat.shadow.report.tables import exposure_table
from meshfold.model.errors import NotDurable
from tests.compat.shadow.made_comparison import HOSTILE_TEXT, hostile, made, made_surface

_VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements of a page, and whether each that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += data

    def of(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def undrawn(comparison: Comparison) -> Comparison:
    """Without what plots are made of, which take most of the time."""
    surfaces = (
        replace(s, curve=(), histogram=((), ()), drift=None, latencies=()) for s in comparison.surfaces
    )
    return replace(comparison, surfaces=tuple(surfaces))


@pytest.fixture(scope="module")
def page() -> str:
    return render(made())


@pytest.fixture(scope="module")
def planted() -> str:
    return render(hostile(HOSTILE_TEXT))


def test_a_page_of_twelve_examples_of_100_results_is_small(page: str) -> None:
    assert len(page.encode()) < 2_000_000
    assert Page(page).tags["details"] == 12


def test_a_page_names_no_other_place(page: str, planted: str) -> None:
    for text in (page, planted):
        parsed = Page(text)
        names = {"src", "srcset", "action", "data", "poster", "background", "ping", "manifest"}
        assert not names & {name for name, _ in parsed.attributes}
        assert all(value.startswith("#") for name in ("href", "xlink:href") for value in parsed.of(name))
        assert "@import" not in text
        assert set(re.findall(r"url\((.)", text)) <= {"#"}
        assert not {"link", "iframe", "img", "object", "embed", "base", "form"} & parsed.tags.keys()


def test_ids_are_there_once() -> None:
    parsed = Page(render(made(("home", "trending"), examples=1)))
    assert [name for name, times in Counter(parsed.of("id")).items() if times > 1] == []
    used = {value[1:] for name in ("href", "xlink:href") for value in parsed.of(name)}
    used |= set(parsed.of("aria-labelledby"))
    assert used <= set(parsed.of("id"))


def test_text_of_others_makes_no_element() -> None:
    plain, odd = (Page(render(undrawn(hostile(text)))) for text in ("plain", HOSTILE_TEXT))
    assert odd.tags == plain.tags
    assert {name for name, _ in odd.attributes} == {name for name, _ in plain.attributes}
    # Nor is it a template.
    assert "`&amp;{{ 7 * 7 }}{% raw %}$x^$" in odd.text


def test_empty_text_is_named() -> None:
    text = Page(render(undrawn(hostile("")))).text
    assert "Surface (no name)" in text
    assert "(empty)" in text


def test_a_page_tells_what_the_comparison_holds(page: str) -> None:
    text = " ".join(Page(page).text.split())
    for told in (
        "Model and mesh share 91 of 100 results; the mesh shares 94 with itself.",
        "Beyond the mesh's own noise, the model differs in 2.9 of 100 results",
        "Rank-biased overlap",
        "Documentary",
        "mesh's search missed it 2,904 · 71.6%",
        "Nothing to mend in the model.",
        "under 1 % pass",
        "mesh-2026.11.3",
        "This request is redacted. It cannot be replayed.",
        "answers that do not decode",
        "User features are redacted: these pairs cannot be replayed.",
        "pairs/home-20261130.parquet",
    ):
        assert told in text, told
    assert "nan" not in text.lower().split()


def test_a_page_of_no_pairs_says_so() -> None:
    empty = replace(made_surface("home", examples=0), pairs=0)
    for comparison in (Comparison(()), Comparison((empty,), counted={"one side only": 4})):
        text = Page(render(comparison)).text
        assert "There are no pairs to compare" in text
    assert "one side only" in text


def test_a_surface_of_which_little_is_known_has_its_page() -> None:
    known = Interval(0.5, math.nan, math.nan)
    bare = SurfaceComparison(
        surface="",
        pairs=1,
        noise_pairs=0,
        users=0,
        figures=(
            replace(made_surface("x", examples=0).figures[2], difference=known, noise=None, excess=None),
        ),
        curve=(),
        histogram=((), ()),
        rates=(),
        latencies=(),
        exposure=(),
        drift=None,
        slices=(),
        attributed_pairs=0,
        causes={},
        examples=(replace(made_surface("x", examples=1).examples[0], pair=Pair("r"), items={}),),
    )
    text = Page(render(Comparison((bare,)))).text
    assert "Model and mesh share 50 of 100 results." in text
    assert "How far it differs from itself is therefore unknown." in text
    assert "no answer here" in text


def test_a_page_is_bounded_whatever_a_comparison_holds() -> None:
    names = tuple(f"surface {i}" for i in range(MOST_SURFACES + 2))
    bare = tuple(made_surface(name, examples=2, results=30) for name in names)
    first = replace(bare[0], examples=bare[0].examples * 10)
    text = render(undrawn(Comparison((first, *bare[1:]))))
    assert Page(text).tags["details"] == MOST_EXAMPLES
    assert f"{20 - MOST_EXAMPLES_PER_SURFACE} more examples are not on this page." in text
    assert "2 more surfaces are not on this page." in text


def test_plots_take_numbers_that_are_none() -> None:
    surface = made_surface("home", examples=0)
    odd = replace(
        surface,
        curve=((1, math.nan, math.nan), (5, 0.0, math.nan), (10, 1.0, 0.5)),
        histogram=((0,) * 19 + (7,), (0,) * 20),
        drift=Drift(Interval(math.nan, math.nan, math.nan), 0, (), ((math.nan, 1.0), (math.inf, 2.0))),
        latencies=(replace(surface.latencies[0], p50=0.0, p90=math.nan),),
    )
    assert [plot.title for plot in plots_of(odd, 0)] == [
        "Agreement over rank",
        "Overlap of single pairs",
        "Score drift",
    ]
    flat = replace(
        odd, curve=((1, 1.0, 1.0),), latencies=(replace(surface.latencies[0], p50=5.0, p90=5.0, p99=5.0),)
    )
    assert len(plots_of(flat, 0)) == 4


def test_equal_comparisons_give_equal_pages(page: str) -> None:
    assert render(made()) == page


def test_bars_of_exposure_stay_on_their_line() -> None:
    ratios = [(1.0, 0.99, 1.01), (0.0, 0.0, 9.0), (math.inf, math.nan, math.nan), (0.6, 0.5, 0.7)]
    table = exposure_table(
        Exposure("genres", "Comedy", 0, 0.1, 0.1 * ratio, Interval(ratio, low, high), 0.01)
        for ratio, low, high in ratios
    )
    bars = [row[5].bar for row in table.rows]
    assert all(bar is not None and 0 <= bar.low <= bar.value <= bar.high <= 100 for bar in bars)
    assert bars[0] is not None
    assert bars[0].value == 50
    assert [row[4].text for row in table.rows] == ["1.00x", "0.00x", "only the model", "0.60x"]


def test_files_of_the_page_are_installed() -> None:
    root = Path(__file__).parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["meshfold.compat.shadow.report"]
    beside = {
        path.name
        for path in (root / "compat" / "shadow" / "report").iterdir()
        if path.is_file() and path.suffix != ".py"
    }
    assert beside == {name for name in beside if any(fnmatch(name, pattern) for pattern in patterns)}


def test_a_report_is_written_whole_in_the_place_of_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("older")
    write_html(Comparison(()), file)
    assert file.read_text(encoding="utf-8") == render(Comparison(()))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert stat.S_ISREG(file.stat().st_mode)


@pytest.mark.parametrize("name", ["none/report.html", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotDurable, match=f"the report cannot be written to {tmp_path / name}: "):
        write_html(Comparison(()), tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_told_and_the_rest_goes_on(missing: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from meshfold.compat.shadow.comparison import Comparison
from meshfold.compat.shadow.report import as_json, html, summary
from meshfold.model.errors import InvalidConfig
summary.summary(as_json.from_json(as_json.to_json(Comparison(()))))
try:
    html.render(Comparison(()))
except InvalidConfig as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == (
        f"a report as HTML needs {missing}, which is not installed: pip install 'meshfold[shadow]'\n"
    )
