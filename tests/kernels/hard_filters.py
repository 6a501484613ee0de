"""Items of every kind of field, and filters over them, for hard_cases.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import pack
from meshfold.kernels.filter.steps import FilterBatch, FilterTensors, Op, PostingLists

INT64 = np.iinfo(np.int64)
INT32 = np.iinfo(np.int32)

# Fields of the items. TAGS: many values, hashed. YEAR: one, some lack it, hashed. KIND: one, all have it, a plane a
# value. GENRES: many, a plane a value.
TAGS, YEAR, KIND, GENRES = range(4)
FIELDS = 4
VALUES: tuple[tuple[int, ...], ...] = (
    (
        int(INT64.min),
        int(INT64.min) + 1,
        -(2**32) - 1,
        -1,
        0,
        1,
        2**32 - 1,
        int(INT64.max) - 1,
        int(INT64.max),
    ),
    (int(INT32.min), -7, -1, 0, 1, 1999, 2000, int(INT32.max)),
    (-1, 0, 1, 2),
    (0, 1, 2, 3, 4),
)
# Values so rare that posting lists lead to whoever holds them, where a case has such.
RARE = tuple(range(1000, 1020))
# Rows of a value. So few Bloom rows that most lie about some item.
_HASHES = 2
_BLOOM_ROWS = 9
_FIRST_PLANE = {KIND: FIELDS, GENRES: FIELDS + len(VALUES[KIND])}
_FIRST_BLOOM = FIELDS + len(VALUES[KIND]) + len(VALUES[GENRES])
_ROWS = _FIRST_BLOOM + _BLOOM_ROWS

# A step of a program with its values in place of where they stand: (op, a, b, values).
Step = tuple[Op, int, int, tuple[int, ...]]
# A program, postfix.
Filter = tuple[Step, ...]

ALL: Filter = ((Op.CONSTANT, 1, 0, ()),)
NONE: Filter = ((Op.CONSTANT, 0, 0, ()),)


def match(field: int, *values: int) -> Filter:
    return ((Op.PLANE if field in _FIRST_PLANE else Op.MATCH, field, 0, values),)


def between(field: int, low: int, high: int) -> Filter:
    return ((Op.RANGE, field, 0, (low, high)),)


def exists(field: int) -> Filter:
    return ((Op.EXISTS, field, 0, ()),)


def no(inner: Filter) -> Filter:
    return (*inner, (Op.NOT, 0, 0, ()))


def both(left: Filter, right: Filter) -> Filter:
    return (*left, *right, (Op.AND, 0, 0, ()))


def either(left: Filter, right: Filter) -> Filter:
    return (*left, *right, (Op.OR, 0, 0, ()))


def at_least(least: int, *operands: Filter) -> Filter:
    steps = tuple(step for operand in operands for step in operand)
    return (*steps, (Op.AT_LEAST, len(operands), least, ()))


def random_filter(rng: np.random.Generator, depth: int) -> Filter:
    """Any operation at any place; values that items hold, and some that none does."""
    kind = int(rng.integers(0, 9 if depth else 5))
    field = int(rng.integers(0, FIELDS))
    known = VALUES[field] if rng.random() < 0.9 else (5, 77, -(2**40))
    values = [int(rng.choice(known)) for _ in range(rng.integers(0, 4))]
    inner = partial(random_filter, rng, depth - 1)
    if kind == 0:
        return ALL if rng.integers(0, 2) else NONE
    if kind == 1:
        return exists(field)
    if kind in (2, 3):
        # A plane stands only for a value that some item may hold.
        return match(field, *(v for v in values if field not in _FIRST_PLANE or v in VALUES[field]))
    if kind == 4:
        field = YEAR if rng.integers(0, 2) else KIND
        ends = (*VALUES[field], int(INT64.min), int(INT64.max))
        return between(field, int(rng.choice(ends)), int(rng.choice(ends)))
    if kind == 5:
        return no(inner())
    if kind == 6:
        return both(inner(), inner())
    if kind == 7:
        return either(inner(), inner())
    operands = [inner() for _ in range(rng.integers(0, 6))]
    return at_least(int(rng.integers(0, len(operands) + 2)), *operands)


def value_rows(field: int, value: int) -> list[int]:
    """The rows of the signature that are set for a value."""
    if field in _FIRST_PLANE:
        return [_FIRST_PLANE[field] + VALUES[field].index(value)] * _HASHES
    return [_FIRST_BLOOM + (value * step + field) % _BLOOM_ROWS for step in (1, 5)]


def programs(filters: Sequence[Filter], excluded: Sequence[Sequence[int]] = ()) -> FilterBatch:
    """The filters of a batch, padded."""
    steps, values, rows = [], [], []
    for filter_ in filters:
        own_steps: list[list[int]] = []
        own_values: list[int] = []
        own_rows: list[list[int]] = []
        for op, a, b, given in filter_:
            if op in (Op.MATCH, Op.PLANE, Op.RANGE):
                own_steps.append([op, a, len(own_values), len(given)])
                own_values += given
                # A range reads no rows; those of its values are a filler that fits no place.
                own_rows += [[0] * _HASHES if op == Op.RANGE else value_rows(a, v) for v in given]
            else:
                own_steps.append([op, a, b, 0])
        steps.append(own_steps)
        values.append(own_values)
        rows.append(own_rows)
    excluded = [list(e) for e in excluded] or [[] for _ in filters]
    return FilterBatch(
        _padded(steps, [int(Op.NOOP), 0, 0, 0], (4,)),
        _padded(values, 0, ()),
        _padded(rows, [0] * _HASHES, (_HASHES,)),
        _padded(excluded, -1, ()),
    )


def filter_tensors(rng: np.random.Generator, n: int, rare: bool = False) -> FilterTensors:
    """What n items hold: up to four tags and three genres each, a year for two of three; tags and years have posting
    lists. rare: three items, more or less, hold each of RARE as a tag, some of them as their year, too."""
    tags = _drawn(rng, VALUES[TAGS], rng.integers(0, 5, n))
    years = _drawn(rng, VALUES[YEAR], (rng.random(n) < 0.67).astype(np.int64))
    kinds = _drawn(rng, VALUES[KIND], np.ones(n, np.int64))
    genres = _drawn(rng, VALUES[GENRES], rng.integers(0, 4, n))
    for value in RARE if rare else ():
        for item in rng.integers(0, n, 3).tolist():
            tags[item] = [*tags[item], value]
            if rng.random() < 0.5:
                years[item] = [value]
    return FilterTensors(
        signature(n, [tags, years, kinds, genres]),
        [
            torch.tensor([v for own in tags for v in own], dtype=torch.int64),
            # What stands where an item has no year must not matter.
            torch.tensor([own[0] if own else 2000 for own in years], dtype=torch.int32),
            torch.tensor([own[0] for own in kinds], dtype=torch.int64),
            torch.tensor([v for own in genres for v in own], dtype=torch.int32),
        ],
        [
            _offsets(tags),
            torch.empty(0, dtype=torch.int64),
            torch.empty(0, dtype=torch.int64),
            _offsets(genres),
        ],
        posting_lists([tags, years, [], []]),
    )


def posting_lists(held: Sequence[Sequence[Sequence[int]]]) -> PostingLists:
    """held: the values of each item, for each field; a field without items has no lists."""
    fields, values, positions = [0], [], []
    for items in held:
        by_value: dict[int, set[int]] = {}
        for item, own in enumerate(items):
            for value in own:
                by_value.setdefault(value, set()).add(item)
        values += sorted(by_value)
        positions += [sorted(by_value[value]) for value in sorted(by_value)]
        fields.append(len(values))
    return PostingLists(
        torch.tensor(fields, dtype=torch.int64),
        torch.tensor(values, dtype=torch.int64),
        torch.tensor([0, *np.cumsum([len(own) for own in positions]).tolist()], dtype=torch.int64),
        torch.tensor([p for own in positions for p in own], dtype=torch.int32),
    )


def signature(n: int, held: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """[G, R, 8] int64. held: the values of each item, for each field."""
    bits = np.zeros((_ROWS, n), bool)
    for field, items in enumerate(held):
        for item, values in enumerate(items):
            for value in values:
                bits[field, item] = True
                bits[value_rows(field, value), item] = True
    return torch.stack([pack(torch.from_numpy(row)) for row in bits], 1)


def _drawn(
    rng: np.random.Generator, values: Sequence[int], lengths: npt.NDArray[np.int64]
) -> list[list[int]]:
    drawn = rng.choice(np.array(values), int(lengths.sum())).tolist()
    ends = np.cumsum(lengths).tolist()
    return [drawn[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _offsets(held: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([0, *np.cumsum([len(own) for own in held]).tolist()], dtype=torch.int64)


def _padded(rows: Sequence[Sequence[object]], filler: object, shape: tuple[int, ...]) -> Tensor:
    longest = max(len(row) for row in rows)
    out: npt.NDArray[np.int64] = np.empty((len(rows), longest, *shape), np.int64)
    for to, row in zip(out, rows, strict=True):
        for i in range(longest):
            to[i] = row[i] if i < len(row) else filler
    return torch.from_numpy(out)
