from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from meshfold.kernels.native import library
from meshfold.kernels.wire.scan import MOST_NESTED, scan, scan_reference
from meshfold.kernels.wire.table import (
    BYTES,
    FIXED32,
    FIXED64,
    NONE,
    VARINT,
    Count,
    Rule,
    Scan,
    Table,
    Verdict,
)

LEVELS = library.levels()[:2]
MANY = 1 << 40
# The outermost message: 1 a captured number, 2 captured bytes, 3 numbers, 4 fixed numbers, 5 groups, 6 itself.
# A group: 1 numbers of which the largest list is told, 2 shorter fixed ones, 3 itself.
TABLE = Table(
    types=(
        (
            None,
            Rule(VARINT, capture=0),
            Rule(BYTES, capture=1),
            Rule(VARINT, counter=0),
            Rule(FIXED64, counter=0),
            Rule(BYTES, child=1, counter=1),
            Rule(BYTES, child=0),
        ),
        (None, Rule(VARINT, counter=2), Rule(FIXED32, counter=2), Rule(BYTES, counter=3)),
    ),
    level=0,
    counters=((NONE, NONE), (NONE, NONE), (1, 1), (1, 0)),
    captures=2,
)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def numbered(field: int, number: int) -> bytes:
    return varint(field << 3 | VARINT) + varint(number & (1 << 64) - 1)


def held(field: int, content: bytes) -> bytes:
    return varint(field << 3 | BYTES) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    message = b""
    for _ in range(depth):
        message = held(6, message)
    return message


@pytest.fixture(params=LEVELS)
def scanned(request: pytest.FixtureRequest) -> Callable[..., Scan]:
    def run(message: bytes, most_fields: int = MANY, table: Table = TABLE) -> Scan:
        with library.forced(request.param):
            return scan(table, message, most_fields)

    return run


Scanned = Callable[..., Scan]


def test_an_empty_message_holds_nothing(scanned: Scanned) -> None:
    found = scanned(b"")
    assert (found.verdict, found.fields, found.levels) == (Verdict.MESSAGE, 0, 1)
    assert [found.count(c) for c in range(4)] == [Count(0, 0, 0, 0, 0)] * 4
    assert (found.number(0), found.span(1)) == (0, (0, 0))


@pytest.mark.parametrize("number", [0, 1, 127, 128, 1 << 40, (1 << 63) - 1, -1, -(1 << 63)])
def test_the_last_of_captured_fields_counts(scanned: Scanned, number: int) -> None:
    found = scanned(numbered(1, 7) + held(2, b"first") + held(2, b"last") + numbered(1, number))
    assert found.number(0) == number
    assert found.span(1) == (11, 15)


def test_numbers_count_packed_and_one_by_one(scanned: Scanned) -> None:
    packed = b"".join(varint(n) for n in (0, 127, 128, 1 << 20, (1 << 64) - 1)) + b"\x01" * 21
    assert scanned(held(3, packed)).total(0) == 26
    assert scanned(held(3, b"")).total(0) == 0
    assert scanned(numbered(3, 1) + held(3, b"\x01\x02") + numbered(3, -1)).total(0) == 4
    assert scanned(held(4, bytes(24)) + b"\x21" + bytes(8)).total(0) == 4


def test_the_largest_list_of_a_message_is_told_with_its_place_and_bytes(scanned: Scanned) -> None:
    largest = held(1, b"\x01\x02") + held(2, bytes(8)) + held(3, b"name")
    message = (
        held(5, held(1, b"\x01")) + held(5, largest) + held(5, numbered(1, 1) * 4) + held(6, held(5, b""))
    )
    found = scanned(message)
    start = message.index(largest)
    assert found.count(1) == Count(4, 4, 0, 0, 0)
    assert found.count(2) == Count(9, 4, 1, start, start + len(largest))
    assert found.count(3) == Count(1, 1, 0, start, start + len(largest))


def test_what_is_not_looked_at_is_passed_over(scanned: Scanned) -> None:
    unknown = (
        numbered(99, 1)
        + held(98, b"\xff" * 20)
        + b"\x9d\x06abcd"
        + b"\x99\x06abcdefgh"
        + numbered(1 << 28, 1)
    )
    found = scanned(unknown + numbered(3, 1) + unknown + numbered(5, 1) + held(1, b"\xff"))
    assert (found.verdict, found.fields, found.total(0), found.total(1)) == (Verdict.MESSAGE, 13, 1, 0)


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",
        b"\x08\xff",
        b"\x08" + b"\xff" * 10 + b"\x01",
        b"\x12",
        b"\x12\x02a",
        b"\x12" + b"\xff" * 9 + b"\x01",
        b"\x00\x01",
        b"\x07",
        b"\x0b\x0c",
        b"\x0c",
        b"\x9d\x06abc",
        b"\x99\x06abcdefg",
        held(3, b"\x80"),
        held(3, b"\x01" * 12 + b"\x80"),
        held(3, b"\x01" + b"\xff" * 10 + b"\x01"),
        held(3, b"\xff" * 30 + b"\x01"),
        held(4, bytes(9)),
        held(5, held(2, bytes(3))),
        held(5, b"\x0a\x05\x01") + b"\x01\x01\x01\x01",
        held(6, held(6, b"\x08")),
    ],
)
def test_what_is_no_message_is_malformed(scanned: Scanned, message: bytes) -> None:
    assert scanned(message).numbers == [Verdict.MALFORMED, *[0] * (TABLE.numbers - 1)]


@pytest.mark.parametrize("before", range(9))
def test_a_number_takes_ten_bytes_at_most(scanned: Scanned, before: int) -> None:
    start = b"\x01" * before
    assert scanned(held(3, start + b"\xff" * 9 + b"\x01")).total(0) == before + 1
    assert scanned(held(3, start + b"\xff" * 10 + b"\x01")).verdict == Verdict.MALFORMED


def test_messages_lie_in_one_another_as_deep_as_parsers_take_them(scanned: Scanned) -> None:
    assert scanned(nested(MOST_NESTED)).levels == MOST_NESTED + 1
    assert scanned(nested(MOST_NESTED + 1)).verdict == Verdict.TOO_NESTED
    assert scanned(nested(10_000)).verdict == Verdict.TOO_NESTED
    assert scanned(nested(3) + nested(2)).levels == 4


def test_it_stops_at_the_first_field_too_many(scanned: Scanned) -> None:
    message = numbered(3, 1) * 5 + held(6, numbered(3, 1))
    assert scanned(message, 7).fields == 7
    assert scanned(message, 6).verdict == Verdict.TOO_MANY_FIELDS
    assert scanned(numbered(3, 1) + b"\x07", 1).verdict == Verdict.TOO_MANY_FIELDS


def message_of(draw: random.Random, depth: int = 0) -> bytes:
    """A random message that TABLE looks at, with fields of other wire types than it says."""
    parts = []
    for _ in range(draw.randrange(6)):
        field = draw.choice((1, 2, 3, 4, 5, 6, 7, 300))
        match draw.randrange(6):
            case 0:
                parts.append(numbered(field, draw.getrandbits(draw.choice((7, 14, 64)))))
            case 1:
                parts.append(varint(field << 3 | FIXED64) + bytes(8))
            case 2:
                parts.append(varint(field << 3 | FIXED32) + bytes(4))
            case 3:
                parts.append(
                    held(field, b"".join(varint(draw.getrandbits(20)) for _ in range(draw.randrange(30))))
                )
            case _ if depth < 4:
                parts.append(held(draw.choice((5, 6)), message_of(draw, depth + 1)))
    return b"".join(parts)


def mutated(draw: random.Random, message: bytes) -> bytes:
    changed = bytearray(message)
    for _ in range(draw.randrange(3)):
        place = draw.randrange(len(changed) + 1)
        match draw.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([draw.getrandbits(8)])
            case 1:
                del changed[place : place + draw.randrange(1, 9)]
            case 2:
                changed[place:place] = draw.choice((b"\xff" * 9, b"\x80", draw.randbytes(3)))
            case 3:
                start = draw.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + 20]
    return bytes(changed)


@pytest.mark.skipif(len(LEVELS) < 2, reason="the kernels are not built here")
def test_the_kernel_is_its_reference_on_ten_thousand_messages() -> None:
    draw = random.Random(20)
    verdicts = dict.fromkeys(Verdict, 0)
    for _ in range(10_000):
        message = mutated(draw, message_of(draw))
        most_fields = draw.choice((5, MANY))
        found = scan(TABLE, message, most_fields)
        assert found.numbers == scan_reference(TABLE, message, most_fields).numbers, message
        verdicts[found.verdict] += 1
    assert verdicts[Verdict.MESSAGE] > 2000
    assert verdicts[Verdict.MALFORMED] > 1000
    assert verdicts[Verdict.TOO_MANY_FIELDS] > 1000


def test_a_table_without_counters_and_captures_only_walks(scanned: Scanned) -> None:
    table = Table(((None, Rule(BYTES, child=0)),), NONE, (), 0)
    found = scanned(held(1, held(1, b"")) + numbered(2, 1), table=table)
    assert (found.verdict, found.fields, found.levels) == (Verdict.MESSAGE, 3, 0)


@pytest.mark.parametrize(
    ("rule", "counters"),
    [
        (Rule(3), ()),
        (Rule(BYTES, child=1), ()),
        (Rule(BYTES, counter=0), ()),
        (Rule(BYTES, capture=0), ()),
        (Rule(VARINT, child=0), ()),
        (Rule(FIXED32, capture=0), ()),
        (Rule(BYTES, child=-2), ()),
        (Rule(BYTES, child=0), ((0, 0),)),
        (None, ((1, 0),)),
        (None, ((0, -2),)),
    ],
)
def test_a_table_that_points_out_of_itself_is_refused(
    rule: Rule | None, counters: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(ValueError, match="the table|wire type|captured|within itself"):
        Table(((rule,),), NONE, counters, 0)


def test_a_level_that_the_table_does_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hold: 1"):
        Table(((None,),), 1, (), 0)
