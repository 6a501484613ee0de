"""The pages and their parts, by path. Every answer is computed at most once a second, for any number of readers."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.live_page.facts import PageFacts, Source
from meshfold.compat.live_page.view import (
    PATH,
    PageView,
    page_view,
    query_of,
    surface_page_view,
    surface_view,
)
from meshfold.model.errors import InvalidConfig
from meshfold.service.extras import need
from meshfold.service.http_port import Page, PageAnswer, PageRequest, text

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
_REPORT = _FOLDER.parent / "shadow" / "report"
# Time between updates of an open page: with its script, and without.
_EVERY_MS, _REFRESH_S = 5000, 15
_FRESH_S = 1.0
_MOST_VERSIONS = 20


@dataclass(frozen=True)
class _Part:
    """A part of a page. version: changes with the text."""

    name: str
    version: str
    html: str


@dataclass(frozen=True)
class _Made:
    title: str
    parts: tuple[_Part, ...]


def pages(source: Source) -> Mapping[str, Page]:
    """Pages by path. Without the extra `shadow` the page names what is missing."""
    try:
        need("shadow", "the live page", ("jinja2",))
    except InvalidConfig as error:
        why = str(error)
        return {PATH: lambda request: text(why, 501)}
    made = _Pages(source)
    return {PATH: made.page, f"{PATH}/parts.json": made.parts, **_files()}


def _files() -> dict[str, Page]:
    style = "\n".join((folder / name).read_text() for folder, name in _STYLES)
    files = {
        "style.css": (style, "text/css"),
        "live.js": ((_FOLDER / "live.js").read_text(), "text/javascript"),
        "sort.js": ((_REPORT / "sort.js").read_text(), "text/javascript"),
    }

    def page(content: str, kind: str) -> Page:
        answer = PageAnswer(content.encode(), f"{kind}; charset=utf-8")
        return lambda request: answer

    return {f"{PATH}/{name}": page(*file) for name, file in files.items()}


_STYLES = ((_REPORT, "style.css"), (_FOLDER, "live.css"))


class _Pages:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._environment = _environment()
        # Compiled before the first request.
        self._page, self._parts = map(self._environment.get_template, ("page.html", "live_parts.html"))
        self._lock = threading.Lock()
        self._made_s = -math.inf
        self._facts = PageFacts((), 0, "", "")
        self._view = page_view(self._facts)
        # By surface; None for all surfaces. Each is made from the facts.
        self._made: dict[str | None, _Made] = {}

    def page(self, request: PageRequest) -> PageAnswer:
        surface = request.query.get("surface")
        made = self._of(surface)
        if made is None:
            return text(f"no such surface; {PATH} shows all", 404)
        link = f"{PATH}/parts.json"
        limits = GateSettings()
        html = self._page.render(
            title=made.title,
            parts=made.parts,
            parts_link=link if surface is None else f"{link}?{query_of(surface)}",
            every_ms=_EVERY_MS,
            refresh_s=_REFRESH_S,
            margin=f"{100 * limits.margin:g}%",
            errors=f"{100 * limits.errors_pass:g}%",
            slow=f"{limits.p99_pass_ms:g} ms",
        )
        return PageAnswer(html.encode())

    def parts(self, request: PageRequest) -> PageAnswer:
        """have: versions of the parts that the page has, separated by commas; these parts are left out."""
        made = self._of(request.query.get("surface"))
        if made is None:
            return text(f"no such surface; {PATH} shows all", 404)
        have = set(request.query.get("have", "").split(",", _MOST_VERSIONS))
        parts = [
            {"name": part.name, "version": part.version}
            | ({} if part.version in have else {"html": part.html})
            for part in made.parts
        ]
        told = {"title": made.title, "parts": parts}
        return PageAnswer(json.dumps(told).encode(), "application/json")

    def _of(self, surface: str | None) -> _Made | None:
        """None for an unknown surface."""
        with self._lock:
            if time.monotonic() - self._made_s >= _FRESH_S:
                self._facts = self._source.facts()
                self._view = page_view(self._facts)
                self._made = {}
                self._made_s = time.monotonic()
            if surface not in self._made:
                made = self._make(surface, self._facts, self._view)
                if made is None:
                    return None
                self._made[surface] = made
            return self._made[surface]

    def _make(self, surface: str | None, facts: PageFacts, view: PageView) -> _Made | None:
        parts: Any = self._parts.module
        html: dict[str, str] = {}
        if surface is None:
            html["head"], html["surfaces"] = parts.head(view), parts.surfaces(view)
        # With a single surface, the first page shows everything.
        name = facts.surfaces[0].name if surface is None and len(facts.surfaces) == 1 else surface
        if name is not None:
            each = next((one for one in facts.surfaces if one.name == name), None)
            if each is None:
                return None
            shown = surface_view(each, facts)
            if surface is not None:
                html["head"] = parts.surface_head(view, shown)
            html["now"] = parts.now(shown, surface_page_view(each, facts), facts.span)
            html["details"] = parts.details(self._source.details(name))
        return _Made(view.title, tuple(_Part(part, _version(made), made) for part, made in html.items()))


def _version(html: str) -> str:
    return hashlib.sha256(html.encode()).hexdigest()[:16]


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        # Names and reasons come from outside.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["path"] = PATH
    return environment
