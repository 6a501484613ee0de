from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from meshfold.kernels.native import library
from meshfold.kernels.wire import write as wire_write
from meshfold.kernels.wire.columns import ABSENT, Column, FieldLayout, Form, Kind, Layout
from meshfold.kernels.wire.write import write, write_reference

LEVELS = library.levels()[:2]
NUMBERS = Layout(((FieldLayout(50, Kind.VARINT, Form.PACKED),),))
TEXTS = Layout(((FieldLayout(10, Kind.BYTES),),))
# A number, and messages that hold texts.
NESTED = Layout(
    (
        (FieldLayout(8, Kind.VARINT, Form.UNLESS_ZERO), FieldLayout(18, Kind.MESSAGE, child=1)),
        (FieldLayout(10, Kind.BYTES),),
    )
)
NO_COUNTS: Any = np.ones(1)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Any:
    with library.forced(request.param):
        yield request.param


@pytest.mark.usefixtures("level")
def test_bytes_are_those_of_the_specification() -> None:
    # The examples of https://protobuf.dev/programming-guides/encoding.
    assert write(NUMBERS, [Column(3, ints(3, 270, 86942))]).hex(" ") == "32 06 03 8e 02 9e a7 05"
    assert write(TEXTS, [Column(1, b"testing", ints(7))]) == b"\x0a\x07testing"
    nested = write(NESTED, [Column(1, ints(150)), Column(2), Column(ints(2, 0), b"ab", ints(1, 1))])
    assert nested == b"\x08\x96\x01\x12\x06\x0a\x01a\x0a\x01b\x12\x00"
    assert write(NESTED, [Column(1, ints(0)), ABSENT, ABSENT]) == b""


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(
    ("layout", "columns", "told"),
    [
        (NUMBERS, [], "a layout of 1 fields needs as many columns, got 0"),
        (NUMBERS, [Column(-1, ints())], "counts must be 1 int64 from 0 on, got -1"),
        (NUMBERS, [Column(ints(1, 1), ints(1, 2))], "counts must be 1 int64 from 0 on, got [1 1]"),
        (NUMBERS, [Column(NO_COUNTS, ints(1))], "counts must be 1 int64 from 0 on, got [1.]"),
        (NUMBERS, [Column(2, ints(1))], "a column of 2 values does not fit its field"),
        (NUMBERS, [Column(1, np.ones(1, np.int32))], "a column of 1 values does not fit its field"),
        (NUMBERS, [Column(1)], "a column of 1 values does not fit its field"),
        (NUMBERS, [Column(1, b"a", ints(1))], "a column of 1 values does not fit its field"),
        (TEXTS, [Column(1, b"a")], "a column of 1 values does not fit its field"),
        (TEXTS, [Column(1, ints(1))], "a column of 1 values does not fit its field"),
        (TEXTS, [Column(2, b"ab", ints(1))], "a column of 2 values does not fit its field"),
        (TEXTS, [Column(2, b"ab", ints(3, -1))], "lengths must be from 0 on"),
        (TEXTS, [Column(2, b"ab", ints(1, 2))], "lengths must be from 0 on"),
        (TEXTS, [Column(2, b"ab", ints(1, 0))], "lengths must be from 0 on"),
        (TEXTS, [Column(2, b"ab", ints(2**63 - 1, 2**63 - 1))], "lengths must be from 0 on"),
        (NESTED, [ABSENT, Column(2), Column(ints(1), b"a", ints(1))], "counts must be 2 int64 from 0 on"),
        (NESTED, [ABSENT, ABSENT, Column(ints(1), b"a", ints(1))], "counts must be 0 int64 from 0 on"),
    ],
)
def test_columns_that_do_not_fit_are_refused(layout: Layout, columns: list[Column], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        write(layout, columns)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (((FieldLayout(7, Kind.VARINT),),), "a field that no message holds"),
        (((FieldLayout(1 << 32, Kind.VARINT),),), "a field that no message holds"),
        (((FieldLayout(10, Kind.MESSAGE),),), "a field that no message holds"),
        (((FieldLayout(10, Kind.BYTES, Form.PACKED),),), "only numbers are packed"),
        (((FieldLayout(10, Kind.RAW, Form.UNLESS_ZERO),),), "has no value that stands for none"),
        (((FieldLayout(10, Kind.MESSAGE, child=0),),), "a message that does not come after its field's"),
        (((FieldLayout(10, Kind.MESSAGE, child=2),), ()), "a message that does not come after its field's"),
        (((FieldLayout(10, Kind.MESSAGE, child=1),) * 2, ()), "two fields hold message 1"),
        (((FieldLayout(8, Kind.VARINT),), ()), "messages 1 to 1 are fields' children"),
    ],
)
def test_a_layout_that_is_none_is_refused(messages: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Layout(messages)


@pytest.mark.usefixtures("level")
def test_a_message_beyond_protobufs_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_write, "MOST_BYTES", 8)
    assert len(write(TEXTS, [Column(1, b"123456", ints(6))])) == 8
    with pytest.raises(ValueError, match="a message has up to 8 bytes, this one 9; ask for less"):
        write(TEXTS, [Column(1, b"1234567", ints(7))])


def test_kernel_and_reference_write_alike() -> None:
    random = np.random.default_rng(1)
    kinds = [Kind.VARINT, Kind.FIXED64, Kind.FIXED32, Kind.BYTES, Kind.RAW]
    for _ in range(200):
        layout, columns = _drawn(random, kinds)
        assert write(layout, columns) == write_reference(layout, columns)


def _drawn(random: np.random.Generator, kinds: list[Kind]) -> tuple[Layout, list[Column]]:
    """A tree of messages and its columns."""
    depth = int(random.integers(1, 4))
    messages, columns, instances = [], [], 1
    for m in range(depth):
        fields = []
        for number in random.choice(3000, random.integers(0, 5), replace=False) + 1:
            kind = kinds[random.integers(len(kinds))]
            is_number = kind not in (Kind.BYTES, Kind.RAW)
            forms = [
                Form.EACH,
                *([Form.PACKED] if is_number else []),
                *([Form.UNLESS_ZERO] * (kind is not Kind.RAW)),
            ]
            fields.append(FieldLayout(int(number) << 3, kind, forms[random.integers(len(forms))]))
            columns.append(_column(random, kind, instances))
        if m < depth - 1:
            fields.append(FieldLayout(1 << 3, Kind.MESSAGE, child=m + 1))
            columns.append(Column(counts := random.integers(0, 4, instances)))
            instances = int(counts.sum())
        messages.append(tuple(fields))
    return Layout(tuple(messages)), columns


def _column(random: np.random.Generator, kind: Kind, instances: int) -> Column:
    counts: Any = random.integers(0, 4, instances) if random.random() < 0.5 else int(random.integers(0, 3))
    n = int(counts.sum()) if isinstance(counts, np.ndarray) else counts * instances
    if kind in (Kind.BYTES, Kind.RAW):
        lengths = random.integers(0, 3, n) * random.integers(1, 100)
        return Column(counts, random.bytes(int(lengths.sum())), lengths)
    bits = random.integers(0, 2**64, n, np.uint64) >> random.integers(0, 65, n).astype(np.uint64).clip(max=63)
    values = np.where(random.random(n) < 0.2, 0, bits)
    return Column(counts, values.astype(np.uint32) if kind is Kind.FIXED32 else values.view(np.int64))
