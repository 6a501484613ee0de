"""`make fuzz-data` in short."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.load.fuzz_data import CELLS_EVERY, EQUAL, REFUSED, outcome
from tests.load.table_writers import CSV, INSTALLED


@pytest.mark.parametrize("writer", CSV)
def test_tables_are_read_back_equal_or_refused_by_name(writer: str) -> None:
    if writer not in INSTALLED:
        pytest.skip(f"the extra fuzz is not installed: {writer}")
    counts: Counter[str] = Counter()
    for number in range(1, 80):
        if number % CELLS_EVERY:
            what, told, said = outcome(number, [writer])
            assert what in (EQUAL, REFUSED), f"{number}: {told}\n{said}"
            counts[what] += 1
    assert counts[EQUAL] > 3 * counts[REFUSED]


def test_cells_are_read_as_python_reads_them_or_refused_by_name() -> None:
    counts: Counter[str] = Counter()
    for number in range(0, 160 * CELLS_EVERY, CELLS_EVERY):
        what, told, said = outcome(number)
        assert what in (EQUAL, REFUSED), f"{number}: {told}\n{said}"
        counts[what] += 1
    assert min(counts[EQUAL], counts[REFUSED]) > 20


def test_the_table_of_a_number_is_always_the_same() -> None:
    for number in range(1, 9):
        (what, told, _), (again, retold, _) = outcome(number, ["csv"]), outcome(number, ["csv"])
        assert (what, told) == (again, retold)
