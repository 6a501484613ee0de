from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from meshfold.kernels.filter.bundles import unpack
from meshfold.model.data.catalog import Column
from meshfold.model.filter.bloom import Bloom
from meshfold.model.filter.index import FieldRows, FilterLayout, sign
from meshfold.model.filter.measure import OTHER_WIDTHS, SAMPLED_VALUES, Signed, measure_field
from meshfold.model.schema import FieldKind

NONE = torch.empty(0, dtype=torch.int64)


def measured(
    rows: Sequence[Sequence[int]],
    kind: FieldKind,
    bloom: Bloom,
    dtype: torch.dtype = torch.int64,
    planes: Sequence[int] = (),
) -> tuple[Signed, FilterLayout, Tensor]:
    """The field stands after another, so that neither its place nor its rows are 0."""
    field, other = Column.of_integers(kind, rows), Column.of_integers(kind, [[1]] * len(rows))
    layout = FilterLayout.of(
        [FieldRows(kind, np.array([1])), FieldRows(kind, np.array(planes, np.int64), bloom)]
    )
    signature = torch.from_numpy(sign(layout, [other, field], np.arange(len(rows))))
    if kind.many:
        column, offsets = torch.from_numpy(field.values), torch.from_numpy(field.offsets)
    else:
        column, offsets = torch.tensor([row[0] if row else 0 for row in rows]), NONE
    return measure_field(layout, 1, signature, column.to(dtype), offsets), layout, signature


def lies(
    rows: Sequence[Sequence[int]], asked: Sequence[int], layout: FilterLayout, signature: Tensor
) -> float:
    """By plain Python, over all items."""
    total = wrong = 0
    for value in asked:
        own = [unpack(signature[:, row], len(rows)) for row in layout.value_rows(1, np.array([value]))[0][0]]
        for item, held in enumerate(rows):
            if value not in held:
                total += 1
                wrong += all(bits[item] for bits in own)
    return wrong / total if total else 0.0


@pytest.mark.parametrize("n", [1, 200, 512, 700, 3000])
@pytest.mark.parametrize("kind", [FieldKind.INTEGER, FieldKind.INTEGERS])
def test_it_measures_what_plain_python_counts(n: int, kind: FieldKind) -> None:
    rng = np.random.default_rng(n)
    most = 5 if kind.many else 2
    rows = [sorted({*rng.integers(-3, 90, rng.integers(0, most)).tolist()}) for _ in range(n)]
    rows[0] = rows[0] or [0]
    signed, layout, signature = measured(rows, kind, Bloom(7, 2), torch.int32)
    flat = [value for row in rows for value in row]
    count = min(SAMPLED_VALUES, len(flat))
    asked = [flat[(2 * i + 1) * len(flat) // (2 * count)] for i in range(count)]
    assert (signed.values, signed.items) == (count, n)
    assert signed.measured == pytest.approx(lies(rows, asked, layout, signature), abs=1e-12)


def test_only_values_that_are_hashed_are_asked_for() -> None:
    rows = [[-1, 0, i % 50 + 1] for i in range(700)]
    signed, layout, signature = measured(rows, FieldKind.INTEGERS, Bloom(9, 1), planes=[-1, 0])
    assert signed.typical_pass_rate == pytest.approx(1 / 50)
    assert signed.chosen.expected == pytest.approx(1 / 9)
    flat = [row[2] for row in rows]
    asked = [flat[(2 * i + 1) * 700 // 512] for i in range(256)]
    assert signed.measured == pytest.approx(lies(rows, asked, layout, signature), abs=1e-12)


def test_more_items_than_are_looked_at_are_sampled_evenly() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 400, (150_000, 1)).tolist()
    signed, _, _ = measured(rows, FieldKind.INTEGER, Bloom(16, 2))
    assert signed.items == 64 * 512
    assert signed.measured == pytest.approx(signed.chosen.expected, rel=0.3)
    assert signed.chosen.expected == pytest.approx(1 / 256)
    assert signed.typical_pass_rate == pytest.approx(1 / 400, rel=0.2)


def test_equal_tensors_measure_alike() -> None:
    rows = [[i % 100, i % 77 + 200] for i in range(2000)]
    first, second = (measured(rows, FieldKind.INTEGERS, Bloom(9, 3))[0] for _ in range(2))
    assert first == second


def test_other_widths_are_told_with_their_cost() -> None:
    rows = [[i % 100] for i in range(1024)]
    signed, _, _ = measured(rows, FieldKind.INTEGER, Bloom(20, 2))
    assert signed.chosen.rows == 40
    assert signed.chosen.hashes == 2
    assert signed.chosen.bytes == 2 * 40 * 64
    assert signed.chosen.bytes_per_item == 5.0
    assert [width.rows for width in signed.others] == [40 * times for times in OTHER_WIDTHS]
    for width in signed.others:
        assert width.hashes == 2
        assert width.bytes == 2 * width.rows * 64
    rates = [width.expected for width in signed.others]
    assert rates == sorted(rates, reverse=True)
    assert rates == pytest.approx([(1 / (20 * times)) ** 2 for times in OTHER_WIDTHS])


def test_a_lone_row_has_no_half() -> None:
    signed, _, _ = measured([[1]] * 10, FieldKind.INTEGER, Bloom(1, 3))
    assert [width.rows for width in signed.others] == [3, 3, 6, 6]
    assert signed.chosen.expected == 1.0


def test_a_value_that_all_items_hold_is_never_let_through_in_vain() -> None:
    signed, _, _ = measured([[5]] * 600, FieldKind.INTEGER, Bloom(4, 1))
    assert signed.measured == 0.0
    assert signed.typical_pass_rate == 1.0


def test_only_bloom_rows_are_measured() -> None:
    layout = FilterLayout.of([FieldRows(FieldKind.INTEGER, np.array([1]))])
    with pytest.raises(ValueError, match="field 0 has no Bloom rows"):
        measure_field(layout, 0, torch.zeros((1, 2, 8), dtype=torch.int64), NONE, NONE)
