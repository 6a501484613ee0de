"""Good mappings that are changed in one place, and must be refused with that place."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from meshfold.compat.mapped.compile import load
from meshfold.compat.mapped.errors import InvalidMapping
from meshfold.model.errors import InvalidConfig


def is_refused(folder: Path, text: str, written: str, instead: str, told: str) -> int:
    """How many lines the line that the message names is from the change. told: a part of the message."""
    place = text.index(written)
    file = folder / "broken.toml"
    file.write_text(text[:place] + instead + text[place + len(written) :])
    with pytest.raises(InvalidMapping) as error:
        load(file)
    message = str(error.value)
    assert told in message
    assert "\n" not in message
    return abs(error.value.line - text[:place].count("\n") - 1)


def mutations_are_refused(folder: Path, text: str, count: int) -> None:
    """Names, numbers and words become others, until so many are refused: each message says where."""
    draw = random.Random(25)
    words = [match.span() for match in re.finditer(r"[A-Za-z_]{3,}", text)]
    known = sorted({text[start:end] for start, end in words})
    refused = 0
    file = folder / "mutated.toml"
    while refused < count:
        start, end = draw.choice(words)
        word = text[start:end]
        other = draw.choice((word[:-1], word + "x", word[1:], word[::-1], draw.choice(known), ""))
        file.write_text(text[:start] + other + text[end:])
        try:
            load(file)
        except InvalidConfig as error:
            refused += 1
            message = str(error)
            assert message.startswith(str(file)), message
            assert re.search(r":\d+: |line \d+", message), message
            assert "\n" not in message
