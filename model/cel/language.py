"""A language whose texts are a subset of CEL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Constructs of CEL that neither language has, by CEL's rule, token or operator.
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
    """A subset of CEL.

    noun: the name of a text, for messages. max_characters: limit of a text. shorten: the remedy for a longer text.
    max_brackets: limit of nested brackets. max_depth: limit of a tree's depth. offer: a list of the constructs, for
    messages. lacks: names of other constructs of CEL, by rule, token or operator.
    """

    noun: str
    max_characters: int
    shorten: str
    max_brackets: int
    max_depth: int
    offer: str
    lacks: Mapping[str, str]

    def unsupported(self, kind: str) -> str | None:
        """The message for a construct of this kind; None where the language has it."""
        what = self.lacks.get(kind) or _NOWHERE.get(kind)
        return what and f"{what} is not supported; {self.offer}"
