"""The page in a real browser: as it is laid out, updated and read, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.waiting import wait_until

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from meshfold.compat.live_page import pages as module
from meshfold.compat.live_page.facts import Details
from meshfold.compat.live_page.pages import pages
from meshfold.compat.live_page.surface_details import html_of
from meshfold.compat.ramp.status import State
from meshfold.service.http_port import HttpPort, text
from tests.compat.live_page.page_world import LONG_NAME, MadeSource, many, ramped, surface
from tests.compat.shadow.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from tests.compat.shadow.made_comparison import HOSTILE_TEXT, made
from tests.compat.shadow.test_report_browser import _LOW_CONTRASTS, _WIDTH

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="Chromium or chromedriver is not installed"
)

Shown = Callable[[MadeSource], str]
_CASES = {
    "none": MadeSource([]),
    "one": MadeSource([surface("home")]),
    "many": MadeSource(many(), troubles=("The comparing process does not run.",), left_out={"queue": 3}),
    "long": MadeSource([surface(LONG_NAME)]),
    "paused": MadeSource([ramped("feed", State.PAUSED)]),
    "fallen back": MadeSource([ramped("feed", State.FALLEN_BACK)]),
    "hostile": MadeSource([ramped(HOSTILE_TEXT)], about=HOSTILE_TEXT, notes=(HOSTILE_TEXT,)),
}
_UPDATE = "const done = arguments[0]; update().then(() => done(1))"


@pytest.fixture(scope="module")
def details() -> Details:
    return Details(html_of(made(examples=2, results=20).surfaces[0]), "The newest 5,000 pairs.")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, details: Details) -> Iterator[Shown]:
    monkeypatch.setattr(module, "_FRESH_S", 0.0)
    ports: list[HttpPort] = []

    def shown(source: MadeSource) -> str:
        source.shown = details
        by_path = pages(source)
        ports.append(
            HttpPort("127.0.0.1", 0, lambda r: by_path[r.path](r) if r.path in by_path else text("none", 404))
        )
        return f"http://127.0.0.1:{ports[-1].port}/shadow"

    yield shown
    for port in ports:
        port.stop()


@pytest.mark.parametrize("name", _CASES)
def test_a_page_fits_its_window_asks_nobody_else_and_has_no_error(
    chromium: Browser, shown: Shown, name: str
) -> None:
    url = shown(_CASES[name])
    for width in (390, 1280):
        chromium.open(url, width)
        chromium.run("for (const d of document.querySelectorAll('details')) d.open = true")
        scroll, client = chromium.run(_WIDTH)
        assert scroll <= client <= width
        # Requests before the page's own are those of the browser's first page.
        sent = chromium.requests()
        assert url in sent
        later = [each for each in sent[sent.index(url) + 1 :] if not each.startswith("chrome:")]
        assert {each.rpartition("/")[2] for each in later} <= {
            "style.css",
            "live.js",
            "sort.js",
            "data:,",
        }
        assert chromium.log("browser") == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_stands_out_from_its_ground(chromium: Browser, shown: Shown, is_dark: bool) -> None:
    for name in ("many", "paused", "fallen back"):
        chromium.open(shown(_CASES[name]), is_dark=is_dark)
        assert json.loads(chromium.run(_LOW_CONTRASTS)) == []


def test_the_worst_surface_is_seen_first(chromium: Browser, shown: Shown) -> None:
    chromium.open(shown(_CASES["many"]))
    assert chromium.run("return document.title").startswith("✕ 4 bad")
    cards = "[...document.querySelectorAll('.surfaces li')]"
    assert chromium.run(f"return {cards}.slice(0, 4).map(e => e.className)") == ["is-bad"] * 4
    # Within the first window, without scrolling.
    assert chromium.run(f"return {cards}[3].getBoundingClientRect().bottom") < 800
    chromium.click(".surfaces li:first-child a")
    assert chromium.run("return document.querySelector('h1').textContent").split() == [
        "✕",
        "Bad",
        "new-releases",
    ]
    assert chromium.run("return document.querySelector('[aria-current=step]').textContent") == "mirror"


def test_figures_come_by_themselves_and_what_was_opened_stays_open(
    chromium: Browser, shown: Shown, details: Details
) -> None:
    source = MadeSource([surface("home", overlap=0.93)])
    url = shown(source)
    chromium.open(url)
    chromium.run(
        "document.querySelectorAll('details')[1].open = true; document.querySelector('details').open = false"
    )
    head = ".sortable th:nth-child(2) button"
    chromium.click(head)
    source.given = replace(MadeSource([surface("home", overlap=0.71)]).given, notes=("New.",))
    source.shown = replace(details, html=details.html + "<p>More.</p>")
    chromium.requests()
    assert chromium.ask("execute/async", {"script": _UPDATE, "args": []}) == 1
    assert "71.0%" in chromium.run("return document.querySelector('.few').textContent")
    assert chromium.run("return document.querySelector('h1').textContent") == "home is bad"
    assert chromium.run("return document.title").startswith("✕ 1 bad")
    assert chromium.run("return [...document.querySelectorAll('details')].map(d => d.open)") == [False, True]
    assert chromium.run("return document.querySelector('.sortable th:nth-child(2)').ariaSort") == "descending"
    (asked,) = chromium.requests()
    assert asked.startswith(f"{url}/parts.json?have=")
    # A second surface changes which parts there are: the page loads again.
    source.given = MadeSource(many()).given
    chromium.run("update()")
    wait_until(lambda: chromium.run("return document.querySelectorAll('.surfaces li').length") == 19)


def test_a_server_that_is_gone_is_told_and_comes_back(
    chromium: Browser, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MadeSource([surface("home")])
    chromium.open(shown(source))
    monkeypatch.setattr(source, "facts", lambda: 1 / 0)
    chromium.ask("execute/async", {"script": _UPDATE, "args": []})
    stale = "const e = document.getElementById('stale'); return [e.hidden, e.textContent]"
    hidden, told = chromium.run(stale)
    assert not hidden
    assert "these figures are old" in told
    monkeypatch.undo()
    chromium.ask("execute/async", {"script": _UPDATE, "args": []})
    assert chromium.run(stale)[0]


def test_without_scripts_a_page_says_all_and_reloads(chromium: Browser, shown: Shown) -> None:
    chromium.cdp("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(shown(_CASES["many"]))
        document = chromium.cdp("DOM.getDocument", depth=0)["root"]["nodeId"]

        def found(selector: str) -> int:
            nodes = chromium.cdp("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"]
            return len(nodes)

        assert found(".surfaces li") == 19
        assert found("meta[http-equiv=refresh]") == 1
    finally:
        chromium.cdp("Emulation.setScriptExecutionDisabled", value=False)
    chromium.open(shown(_CASES["many"]))
    assert chromium.run("return document.querySelectorAll('meta[http-equiv=refresh]').length") == 0


def test_text_of_others_is_only_text_after_an_update_too(chromium: Browser, shown: Shown) -> None:
    source = MadeSource([surface("home")])
    chromium.open(shown(source))
    source.given = _CASES["hostile"].given
    chromium.ask("execute/async", {"script": _UPDATE, "args": []})
    assert "planted = 1" in chromium.run("return document.querySelector('.surfaces').textContent")
    assert chromium.run("return window.planted === undefined")
    assert (
        chromium.run("return document.querySelectorAll('img, iframe, form, [onerror], [onclick]').length")
        == 0
    )


def test_headings_follow_each_other_and_lines_have_words(chromium: Browser, shown: Shown) -> None:
    chromium.open(shown(_CASES["fallen back"]))
    levels = chromium.run("return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    words = chromium.run("return [...document.querySelectorAll('svg')].map(e => [e.role, e.ariaLabel])")
    assert len(words) == 8
    assert all(role == "img" and len(label) > 40 for role, label in words)
    ids = chromium.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
