from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from meshfold.compat.mesh.items import Items
from meshfold.compat.mesh.postings import FieldPostings, Postings, bitmap_of, bits_of, rows_of
from meshfold.kernels.filter.bundles import unpack
from meshfold.kernels.filter.steps import FilterBatch
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.module import EligibilityFilter
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.schema import FieldKind
from meshfold.model.snapshot import Snapshot

FILTERS: list[Expression | None] = [
    None,
    All(),
    Any(),
    Exists("groups"),
    Not(Exists("language")),
    Match("language", ("l0",)),
    Match("language", ("l0", "l1", "nobody")),
    Match("tags", ("t3", "t4", "t517", "t898")),
    Match("tags", ("nobody",)),
    Match("groups", (), (2, -3)),
    Match("price", (), (0, 5)),
    Match("year", (), (7, 8, 2**60)),
    Range("year", -10, 20),
    Range("year", -10, 20, inclusive=True),
    Range("price", minimum=0.0),
    Range("price", maximum=-29.5, inclusive=True),
    Range("price"),
    Range("year", 20, 10),
    Not(Match("tags", ("t1",))),
    All((Match("language", ("l1",)), Not(Range("year", maximum=0.0)), Exists("price"))),
    Any((Match("groups", (), (0,)), Range("price", 10, 11))),
    *(
        AtLeast(count, (Match("language", ("l0",)), Range("year", 0), Match("groups", (), (1,))))
        for count in range(5)
    ),
    AtLeast(0, ()),
    AtLeast(1, ()),
]


@pytest.fixture(scope="module")
def postings(snapshot: Snapshot, items: Items) -> Postings:
    return Postings(snapshot, items)


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
def test_filters_pass_what_the_models_own_filter_passes(
    snapshot: Snapshot, items: Items, postings: Postings, filter_: Expression | None
) -> None:
    program = FilterCompiler(snapshot.schema, snapshot.vocabularies(), snapshot.layout()).compile(filter_)
    passing = postings.passing(program)
    found = np.arange(len(items)) if passing is None else rows_of(passing)
    model = EligibilityFilter(
        len(items),
        snapshot.filter["signature"],
        *snapshot.columns(),
        [f.kind is FieldKind.NUMBER for f in snapshot.schema.filterable],
    )
    programs = FilterBatch(
        steps=torch.from_numpy(program.steps)[None],
        values=torch.from_numpy(program.values)[None],
        value_rows=torch.from_numpy(program.value_rows)[None],
        excluded=torch.empty((1, 0), dtype=torch.int64),
    )
    bits = model(programs, torch.tensor([True])).bits[0]
    wanted = np.sort(snapshot.index["rows"].numpy()[unpack(bits, len(items)).numpy()])
    assert found.tolist() == wanted.tolist()


def test_no_filter_is_told_from_one_that_all_pass(snapshot: Snapshot, postings: Postings) -> None:
    compiler = FilterCompiler(snapshot.schema, snapshot.vocabularies(), snapshot.layout())
    assert postings.passing(compiler.compile(None)) is None


@given(st.lists(st.integers(-5, 5), max_size=60), st.integers(-7, 7), st.integers(-7, 7), st.integers(1, 8))
def test_ranges_are_exact_wherever_parts_begin(values: list[int], low: int, high: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshfold.compat.mesh.postings._HELD_BY", size)
        field = FieldPostings(np.array(values, np.int64), np.arange(len(values), dtype=np.uint32), True)
    assert list(field.between(low, high)) == [i for i, v in enumerate(values) if low <= v <= high]
    assert list(field.match(np.array([low, high]))) == [i for i, v in enumerate(values) if v in (low, high)]


@pytest.mark.parametrize("n", [1, 12, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("kind", ["none", "one", "few", "half", "all but few", "all", "runs", "mixed"])
def test_bits_are_as_faiss_reads_them(n: int, kind: str) -> None:
    """Every container of roaring bitmaps: arrays, bits and runs."""
    rng = np.random.default_rng(n)
    rows = np.arange(n)
    passing = {
        "none": rows < 0,
        "one": rows == n - 1,
        "few": rng.random(n) < 0.001,
        "half": rng.random(n) < 0.5,
        "all but few": rng.random(n) > 0.0001,
        "all": rows >= 0,
        "runs": rows // 1000 % 3 == 1,
        "mixed": np.where(rows < 65_536, rng.random(n) < 0.01, rows // 70_000 % 2 == 1),
    }[kind]
    bitmap = bitmap_of(rng.permutation(rows[passing]).astype(np.uint32))
    assert rows_of(bitmap).tolist() == rows[passing].tolist()
    wanted = np.packbits(passing, bitorder="little").tolist()
    assert bits_of(bitmap, n).tolist() == wanted
    bitmap.run_optimize()
    assert bits_of(bitmap, n).tolist() == wanted
    everything = BitMap(range(n))
    assert bits_of(everything - (everything - bitmap), n).tolist() == wanted
