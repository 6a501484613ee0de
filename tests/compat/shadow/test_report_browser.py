"""The report in a real browser: as it is laid out, sorted and read, and what it asks the network for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from meshfold.compat.shadow.comparison import Comparison
from meshfold.compat.shadow.report.html import write_html
from tests.compat.shadow.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from tests.compat.shadow.made_comparison import HOSTILE_TEXT, hostile, made

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="Chromium or chromedriver is not installed"
)

_WIDTH = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
_SLICES = (
    "[...document.querySelectorAll('table.sortable')].find(t => t.caption.textContent.startsWith('Groups'))"
)
_COLUMN = f"return [...{_SLICES}.tBodies[0].rows].map(r => r.cells[1].textContent.trim())"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    comparisons = {
        "one": made(),
        "many": made(("home", "because you watched"), examples=1),
        "none": Comparison((), counted={"one side only": 4}),
        "hostile": hostile(HOSTILE_TEXT),
    }
    for name, comparison in comparisons.items():
        write_html(comparison, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in comparisons}


@pytest.mark.parametrize("name", ["one", "many", "none", "hostile"])
@pytest.mark.parametrize("width", [320, 1280])
def test_a_page_fits_its_window_asks_for_nothing_and_has_no_error(
    chromium: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    chromium.open(pages[name], width)
    chromium.run("for (const d of document.querySelectorAll('details')) d.open = true")
    scroll, client = chromium.run(_WIDTH)
    assert scroll <= client <= width
    assert chromium.requests() == [pages[name].as_uri()]
    assert chromium.log("browser") == []


def test_a_column_sorts_when_its_name_is_pressed(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"])
    assert chromium.run(_COLUMN) == ["88", "131", "52", "61", "420", "610"]
    chromium.run(f"{_SLICES}.id = 'slices'")
    name = "#slices th:nth-child(2) button"
    chromium.click(name)
    assert chromium.run(_COLUMN) == ["610", "420", "131", "88", "61", "52"]
    chromium.click(name)
    assert chromium.run(_COLUMN) == ["52", "61", "88", "131", "420", "610"]
    assert chromium.run("return document.querySelector('#slices th:nth-child(2)').ariaSort") == "ascending"
    # From the keyboard, another column; what is unknown stands last.
    chromium.press("#slices th:nth-child(6) button", "\ue007")
    assert chromium.run(_COLUMN)[-1] == "52"
    assert chromium.run("return document.querySelectorAll('#slices [aria-sort]').length") == 1


def test_text_of_others_is_only_text(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["hostile"])
    # Of the page itself, none of the text: elements that it would make, and what its scripts would leave.
    assert chromium.run("return document.scripts.length") == 1
    assert (
        chromium.run("return document.querySelectorAll('img, iframe, object, link, form, base').length") == 0
    )
    assert chromium.run("return window.planted === undefined")
    assert chromium.run("return document.querySelectorAll('[onerror], [onclick], [onload]').length") == 0
    titles = chromium.run("return [...document.querySelectorAll('.title')].map(e => e.textContent)")
    assert titles
    assert all(title.startswith("</script><script>planted = 1") for title in titles)
    # All parts of the page are there behind it.
    assert chromium.run("return document.getElementById('reading').textContent") == "How to read this page"


def test_a_script_that_came_in_would_not_run(
    chromium: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    page = pages["one"].read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("</main>", "<script>window.planted = 1</script></main>"), encoding="utf-8")
    chromium.open(broken)
    assert chromium.run("return window.planted === undefined")
    assert "Content Security Policy" in " ".join(chromium.log("browser"))


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_stands_out_from_its_ground(chromium: Browser, pages: dict[str, Path], is_dark: bool) -> None:
    """At least 4.5 to 1 (WCAG 2.1, 1.4.3), for every text of the page, those of plots among them."""
    chromium.open(pages["one"], is_dark=is_dark)
    low = json.loads(chromium.run(_LOW_CONTRASTS))
    assert low == []


def test_plots_have_words_and_tables_have_heads(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"])
    plots = chromium.run("return [...document.querySelectorAll('svg')].map(e => [e.role, e.ariaLabel])")
    assert len(plots) == 4
    assert all(role == "img" and len(words) > 40 for role, words in plots)
    assert chromium.run("return document.querySelectorAll('th:not([scope])').length") == 0
    assert chromium.run("return document.querySelectorAll('table.sortable:not(:has(caption))').length") == 0
    levels = chromium.run("return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    anchors = chromium.run(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href').slice(1))"
    )
    assert all(chromium.run(f"return document.getElementById('{anchor}') !== null") for anchor in anchors)


def test_text_in_plots_can_be_read_on_a_phone(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one"], 320)
    heights = chromium.run(
        "return [...document.querySelectorAll('svg text')].map(e => "
        "parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getScreenCTM().a)"
    )
    assert min(heights) >= 9


def test_a_page_says_all_without_scripts(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.cdp("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(pages["one"])
        document = chromium.cdp("DOM.getDocument", depth=0)["root"]["nodeId"]
        tables = chromium.cdp("DOM.querySelectorAll", nodeId=document, selector="table.sortable tbody tr")[
            "nodeIds"
        ]
        buttons = chromium.cdp("DOM.querySelectorAll", nodeId=document, selector="th button")["nodeIds"]
    finally:
        chromium.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert len(tables) > 40
    assert buttons == []


# Texts whose contrast with the nearest ground behind them is too low: [text, ratio].
_LOW_CONTRASTS = """
const parse = (colour) => {
  const found = colour.match(/[\\d.]+/g).map(Number);
  return found.length < 4 ? [...found, 1] : found;
};
const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour[3] > 0) return colour;
  }
  return [255, 255, 255, 1];
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.tagName === "SCRIPT") continue;
  const style = getComputedStyle(element);
  const colour = parse(element.ownerSVGElement ? style.fill : style.color);
  const [a, b] = [light(colour), light(ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push([walker.currentNode.data.trim().slice(0, 40), ratio]);
}
return JSON.stringify(low.slice(0, 10));
"""
