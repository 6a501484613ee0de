"""The source text of a filter or formula: its strings, its truth values, and places of errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from meshfold.model.cel.language import Language
from meshfold.model.errors import MeshfoldError

_NOTABLE = re.compile(
    r"""(?P<comment>//[^\n]*)|(?P<truth>\b(?:true|false)\b)|(?P<bracket>[()\[\]{}])"""
    r"""|(?P<raw>[rR])?(?P<quote>\"""|'''|"|')"""
)
_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"""\\(?:([abfnrtv?"'`\\])|[xX]({_HEX}{{2}})|u({_HEX}{{4}})|U({_HEX}{{8}})|([0-3][0-7]{{2}}))?"""
)
_ESCAPED = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Source:
    """A text with its strings and truth values already read, and the rest for a parser.

    literals: strings and truth values by their first place. blank: the text with `"__"` of the same length in place of
    each string and truth value. Strings are read here because the parser's own pattern takes exponential time for the
    escapes of an unclosed string, and reads r"\\" as unclosed. Truth values are read here because the parser does not
    record their places. fault: makes an error from a message.
    """

    text: str
    language: Language
    fault: Callable[[str], MeshfoldError]
    literals: dict[int, str | bool] = field(default_factory=dict)
    blank: str = ""

    @classmethod
    def of(cls, text: str, language: Language, fault: Callable[[str], MeshfoldError]) -> Source:
        """Reads the literals. Raises a fault for a text that is too long, nested too deep or has unclosed brackets,
        and for an invalid string."""
        most = language.max_characters
        if len(text) > most:
            raise fault(f"the text has {len(text)} characters, more than {most}; {language.shorten}")
        source = cls(text, language, fault)
        if odd := _SURROGATE.search(text):
            raise source.error(odd.start(), "half a surrogate pair is no character; remove it")
        return cls(text, language, fault, source.literals, source._blank())

    def error(self, at: int, message: str) -> MeshfoldError:
        """The error with the line and column of the place `at`, both from 1, and the text there."""
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        here = self.text[at:].split("\n", 1)[0].rstrip()
        shown = f"{here[:32]!r}{'...' if here[32:] else ''}" if here else "the end"
        return self.fault(f"line {line}, column {column}, at {shown}: {message}")

    def _blank(self) -> str:
        pieces: list[str] = []
        brackets: list[int] = []
        done = 0
        while notable := _NOTABLE.search(self.text, done):
            start, end = notable.span()
            pieces.append(self.text[done:start])
            if notable["quote"] or notable["truth"]:
                if notable["quote"]:
                    self.literals[start], end = self._string(notable)
                else:
                    self.literals[start] = notable["truth"] == "true"
                pieces.append(f'"{"_" * (end - start - 2)}"')
            else:
                pieces.append(notable[0])
            if notable["bracket"] in ("(", "[", "{"):
                brackets.append(start)
                if len(brackets) > self.language.max_brackets:
                    deep = self.language.max_brackets
                    raise self.error(start, f"brackets must be nested at most {deep} deep")
            elif notable["bracket"] and brackets:
                brackets.pop()
            done = end
        if brackets:
            raise self.error(brackets[-1], "the bracket is not closed")
        return "".join(pieces) + self.text[done:]

    def _string(self, opening: re.Match[str]) -> tuple[str, int]:
        """(the string that begins with `opening`, the place after it)."""
        quote, start = opening["quote"], opening.end()
        ends = re.compile(quote if opening["raw"] else rf"\\.|{quote}", re.DOTALL)
        end = next((m.start() for m in ends.finditer(self.text, start) if m[0] == quote), -1)
        body = self.text[start:end]
        if end < 0 or (len(quote) == 1 and re.search(r"[\n\r]", body)):
            where = "" if len(quote) == 3 else " on the same line"
            raise self.error(opening.start(), f"the string is not closed; end it with {quote}{where}")
        if opening["raw"]:
            return body, end + len(quote)
        return _ESCAPE.sub(lambda m: self._character(start + m.start(), m), body), end + len(quote)

    def _character(self, at: int, escape: re.Match[str]) -> str:
        if escape.lastindex is None:
            raise self.error(at, 'unknown escape; write \\\\ for a backslash, or a raw string: r"..."')
        digits = escape[escape.lastindex]
        if escape.lastindex == 1:
            return _ESCAPED.get(digits, digits)
        code = int(digits, 8 if escape.lastindex == 5 else 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise self.error(at, "no character has this code; beyond \\uffff write it as \\U0001f600")
        return chr(code)
