"""The page's answers: parts, what a browser has already, and other people's text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest

pytest.importorskip("jinja2")

from meshfold.compat.live_page import pages as module
from meshfold.compat.live_page.pages import pages
from meshfold.compat.migration.modes import Change, Kind, Mode
from meshfold.model.errors import InvalidConfig
from meshfold.service.http_port import Page, PageRequest
from tests.compat.live_page.page_world import MadeSource, many, ramped, surface
from tests.compat.shadow.made_comparison import HOSTILE_TEXT


def body(made: Mapping[str, Page], path: str = "/shadow", **query: str) -> str:
    answer = made[path](PageRequest(path, query))
    assert answer.status == 200
    return answer.body.decode()


def parts(made: Mapping[str, Page], **query: str) -> list[dict[str, str]]:
    told: list[dict[str, str]] = json.loads(body(made, "/shadow/parts.json", **query))["parts"]
    return told


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FRESH_S", 0.0)


def test_a_page_works_without_scripts_and_holds_none() -> None:
    page = body(pages(MadeSource(many())))
    assert '<noscript><meta http-equiv="refresh"' in page
    assert page.count("<script") == 2
    assert page.count('<script src="/shadow/') == 2
    assert 'href="/shadow?surface=because-you-watched"' in page


def test_of_one_surface_all_stands_on_the_first_page() -> None:
    source = MadeSource([surface("home")])
    made = pages(source)
    assert [part["name"] for part in parts(made)] == ["head", "surfaces", "now", "details"]
    source.given = MadeSource(many()).given
    assert [part["name"] for part in parts(made)] == ["head", "surfaces"]
    assert [part["name"] for part in parts(made, surface="feed")] == ["head", "now", "details"]


def test_what_a_browser_has_is_not_sent_again() -> None:
    source = MadeSource([surface("home")])
    made = pages(source)
    first = parts(made)
    have = ",".join(part["version"] for part in first)
    assert all("html" not in part for part in parts(made, have=have))
    source.given = MadeSource([surface("home", overlap=0.8)]).given
    changed = [part["name"] for part in parts(made, have=have) if "html" in part]
    assert changed == ["head", "surfaces", "now"]
    # The page has the versions that it shows.
    assert all(f'data-version="{part["version"]}"' in body(made) for part in parts(made))


def test_an_unknown_surface_and_a_missing_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pages(MadeSource(many()))
    for path in ("/shadow", "/shadow/parts.json"):
        assert made[path](PageRequest(path, {"surface": "elsewhere"})).status == 404

    def missing(*_: object) -> None:
        raise InvalidConfig("the live page needs jinja2, which is not installed")

    monkeypatch.setattr(module, "need", missing)
    without = pages(MadeSource([]))
    assert list(without) == ["/shadow"]
    answer = without["/shadow"](PageRequest("/shadow"))
    assert answer.status == 501
    assert b"needs jinja2" in answer.body


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_text_of_others_is_only_text() -> None:
    hostile: Any = ramped(HOSTILE_TEXT)
    change = Change("", Mode(Kind.MIRROR), HOSTILE_TEXT[:500], HOSTILE_TEXT[:500], 1)
    from dataclasses import replace

    hostile = replace(
        hostile,
        changes=[change],
        ramp=replace(hostile.ramp, reason=HOSTILE_TEXT, steps=(HOSTILE_TEXT,) * 6, mode=HOSTILE_TEXT),
    )
    source = MadeSource(
        [hostile],
        about=HOSTILE_TEXT,
        troubles=(HOSTILE_TEXT,),
        notes=(HOSTILE_TEXT,),
        left_out={HOSTILE_TEXT: 3},
    )
    made = pages(source)
    for page in (body(made), body(made, surface=HOSTILE_TEXT)):
        tags = _Tags()
        tags.feed(page)
        assert not tags.tags & {"img", "iframe", "object", "form", "base", "style"}
        assert not {name for name in tags.attributes if name.startswith("on")}
        assert page.count("<script") == 2
        page.encode()
    json.loads(body(made, "/shadow/parts.json", surface=HOSTILE_TEXT))


def test_figures_are_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FRESH_S", 60.0)

    class Counting(MadeSource):
        asked = 0

        def facts(self) -> Any:
            self.asked += 1
            return super().facts()

    source = Counting(many())
    made = pages(source)
    for _ in range(5):
        body(made)
        parts(made, surface="feed")
    assert source.asked == 1
