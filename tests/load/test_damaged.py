"""`make damaged` in short: a few dozen damaged snapshots, in a process of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshfold.service.runner import Runner
from tests.load.damage import PROGRAMS_EVERY, damage, make_base
from tests.load.damaged import ANSWERED, REFUSED, Run, ask


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_base(tmp_path_factory.mktemp("bases"))


def test_damaged_snapshots_are_refused_or_answered(bases: tuple[Path, Path]) -> None:
    run = Run(bases)
    run.run([number for number in range(80) if number % PROGRAMS_EVERY or number < 24], processes=1)
    assert run.failures == {}
    assert run.counts[REFUSED] > run.counts[ANSWERED] > 0
    assert run.counts.total() == 73


def test_undamaged_ones_are_answered(bases: tuple[Path, Path]) -> None:
    for base in bases:
        ask(Runner.open(base, "shop"))


def test_the_damage_of_a_number_is_always_the_same(bases: tuple[Path, Path], tmp_path: Path) -> None:
    for number in range(20):
        told = [damage(bases, tmp_path / f"{number}-{time}", number) for time in range(2)]
        assert told[0] == told[1]
        once, again = (
            {file.name: file.read_bytes() for file in (tmp_path / f"{number}-{time}").iterdir()}
            for time in range(2)
        )
        assert once == again
