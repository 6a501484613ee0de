"""A language whose texts are a subset of CEL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What no language here has, by CEL's rule, token or operator.
_NOWHERE = {
    "member_dot_arg": "a method",
    "member_index": "an index",
    "member_object": "a message literal",
    "dot_ident": "a leading dot",
    "dot_ident_arg": "a leading dot",
    "map_lit": "a map",
    "UINT_LIT": "an unsigned integer",
    "BYTES_LIT": "a bytes literal",
    "NULL_LIT": "null",
}


@dataclass(frozen=True)
class Language:
    """noun: what a text of it is. max_characters: of a text; shorten: what to do about a longer one.
    max_brackets: within brackets. max_depth: of a tree. offer: all that it has. lacks: what else CEL has.
    """

    noun: str
    max_characters: int
    shorten: str
    max_brackets: int
    max_depth: int
    offer: str
    lacks: Mapping[str, str]

    def unsupported(self, kind: str) -> str | None:
        """What is wrong with a part of this kind; None where the language has it."""
        what = self.lacks.get(kind) or _NOWHERE.get(kind)
        return what and f"{what} is not supported; {self.offer}"
