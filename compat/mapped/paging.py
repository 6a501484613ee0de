"""Paging of answers: by offset and limit, or by a token with the ids of the earlier pages.

A token excludes the ids shown before, so that the next page repeats and skips no item, whichever version answers.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.values import Metadata, Scope, Value, value_of
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Ids, no_ids

_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Page:
    """A page of an answer. first: rank of the page's first result among the model's. wanted: number of results of the
    page. shown: ids of earlier pages."""

    first: int
    wanted: int
    shown: Ids


@dataclass(frozen=True, eq=False)
class Paging:
    offset: Value | None
    token: Value | None

    @property
    def changes_size(self) -> bool:
        return self.offset is not None

    def turn(self, parsed: Any, metadata: Metadata, max_results: int, excluded: Ids) -> tuple[int, Ids, Page]:
        """Reads the page of a request: (number of results to compute, ids to exclude, the page). Raises
        InvalidQuery."""
        first = 0
        if self.offset is not None:
            first = self.offset.read(parsed, metadata) or 0
            if first < 0:
                raise InvalidQuery(self.offset.name, f"must be at least 0, got {first}")
        shown: Ids = no_ids()
        if self.token is not None and (text := self.token.read(parsed, metadata)):
            shown = _ids_of(text, self.token.name)
            if not len(excluded):
                excluded = shown
            elif isinstance(excluded, tuple) is not isinstance(shown, tuple):
                raise InvalidQuery(self.token.name, "is of another answer; start again without it")
            elif isinstance(excluded, tuple):
                excluded = (*excluded, *shown)
            else:
                excluded = np.concatenate([excluded, shown])
        return (
            max_results + first if max_results > 0 else max_results,
            excluded,
            Page(first, max_results, shown),
        )


def paging_of(table: Mapping[str, Part], scope: Scope) -> Paging | None:
    """Compiles the paging of a mapping; None without paging. Raises InvalidMapping."""
    offset = value_of(table["offset"], scope, ("integer",)) if "offset" in table else None
    token = value_of(table["page_token"], scope, ("string",)) if "page_token" in table else None
    if offset is not None and token is not None:
        raise table["page_token"].error("a page has an offset or a token; leave one out")
    return None if offset is None and token is None else Paging(offset, token)


def next_token(page: Page, ids: Ids) -> str:
    """The token of the page after one with these ids; "" after the last page."""
    if len(ids) < page.wanted:
        return ""
    if isinstance(ids, tuple):
        content = b"s" + json.dumps([*page.shown, *ids], ensure_ascii=False, separators=(",", ":")).encode()
    else:
        shown = page.shown if isinstance(page.shown, np.ndarray) else no_ids()
        content = b"i" + np.concatenate([shown, ids]).astype("<i8").tobytes()
    return base64.urlsafe_b64encode(zlib.crc32(content).to_bytes(4, "little") + content).decode()


def _ids_of(token: str, name: str) -> Ids:
    refusal = InvalidQuery(name, "is no token that this server gave; start again without it")
    if len(token) > _MOST_CHARACTERS:
        raise refusal
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refusal from None
    content = raw[4:]
    if raw[:4] != zlib.crc32(content).to_bytes(4, "little"):
        raise refusal
    kind, held = content[:1], content[1:]
    try:
        if kind == b"i" and len(held) % 8 == 0:
            return np.frombuffer(held, "<i8").astype(np.int64)
        if kind == b"s":
            ids = json.loads(held)
            if isinstance(ids, list) and all(isinstance(each, str) for each in ids):
                return tuple(ids)
    except (ValueError, RecursionError):
        pass
    raise refusal
