"""Integer layers: every level gives the reference's bytes, and about what float32 gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from meshfold.kernels.layers.layers import layers_reference
from meshfold.kernels.layers.layers_int8 import layers_int8, layers_int8_reference
from meshfold.kernels.layers.weights_int8 import unpacked, weights_int8, weights_int8_reference
from meshfold.kernels.native import library
from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import FINE_MAX, Quantized, quantize
from tests.kernels.backends import LEVELS, filled_memory, threads

# Inputs side by side, weights, biases, relus: what layers() takes.
Case = tuple[list[Tensor], list[Tensor], list[Tensor | None], list[bool]]
HUGE, TINY = 1e38, 1e-38


def drawn(rows: int, columns: list[int], widths: list[int], relu: bool = True, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(1, rows, n, generator=generator) * 10**i for i, n in enumerate(columns)]
    pairs = list(zip([sum(columns), *widths], widths, strict=False))
    weights = [torch.randn(m, n, generator=generator) / n**0.5 for n, m in pairs]
    biases: list[Tensor | None] = [torch.randn(m, generator=generator) for m in widths]
    return inputs, weights, biases, [relu] * (len(widths) - 1) + [False]


def changed(case: Case, change: Callable[[Case], object]) -> Case:
    change(case)
    return case


def far_rows(case: Case) -> None:
    """Rows of zeros, of numbers next to the ends of float32, and of what is no number."""
    x = case[0][0][0]
    x[0], x[1], x[2] = 0, HUGE, TINY
    x[3, 0], x[4, 0], x[5, 0] = torch.nan, torch.inf, -torch.inf
    x[6, 0], x[7, 0] = HUGE, -1e-31


def far_weights(case: Case) -> None:
    weights = case[1][0]
    weights[0], weights[1], weights[2, 1:], weights[3, 1:] = 0, TINY, 0, HUGE
    case[1][-1][0, 0] = torch.nan


def halves(case: Case) -> None:
    """Values half way between two integers: ties go to the even one."""
    x = case[0][0]
    x.copy_(torch.arange(x.numel()).view(x.shape) % 255 - 127.0).mul_(0.5)
    x[..., 0] = 127


def ends(case: Case) -> None:
    """The largest totals of either sign."""
    for tensor in (*case[0], *case[1]):
        tensor.fill_(1.0)
    case[1][0][::2] = -1.0


def no_biases(case: Case) -> None:
    """None, and zeros below 0."""
    case[2][:] = [torch.full((case[1][0].shape[0],), -0.0), *([None] * (len(case[2]) - 1))]


CASES: dict[str, Callable[[], Case]] = {
    "an OverArch": lambda: drawn(100, [128, 2], [256, 128, 64, 2]),
    "no rows": lambda: drawn(0, [8], [4, 2]),
    **{f"{rows} rows": partial(drawn, rows, [20, 3], [40, 5]) for rows in (1, 11, 12, 13, 24, 25)},
    **{f"N = {n}": partial(drawn, 30, [n], [n, 3]) for n in (1, 2, 3, 4, 15, 16, 17, 63, 65, 130)},
    **{f"M = {m}": partial(drawn, 30, [20], [m, m]) for m in (1, 15, 16, 17, 31, 32, 33, 48, 49)},
    "parts of all widths": lambda: drawn(30, [1, 16, 17, 3, 40], [33, 4]),
    "no relu": lambda: drawn(40, [30, 2], [20, 10, 3], relu=False),
    "far rows": lambda: changed(drawn(30, [20], [30, 4]), far_rows),
    "far rows of a narrow part": lambda: changed(drawn(30, [4, 20], [30, 4]), far_rows),
    "far weights": lambda: changed(drawn(30, [20, 3], [30, 4]), far_weights),
    "ties": lambda: changed(drawn(255, [17, 2], [30, 4]), halves),
    "no biases": lambda: changed(drawn(30, [20, 3], [30, 4], relu=False), no_biases),
    "the largest totals": lambda: changed(drawn(13, [2000], [1500, 20]), ends),
    "totals past 2^24": lambda: drawn(13, [40_000], [3], seed=1),
}


def packed(case: Case) -> list[Tensor]:
    inputs, weights, _, _ = case
    first, *others = weights
    return [
        weights_int8(first, [x.shape[-1] for x in inputs]),
        *(weights_int8(w, [w.shape[1]]) for w in others),
    ]


@pytest.mark.parametrize("name", CASES)
def test_every_level_gives_the_references_bytes(name: str) -> None:
    case = CASES[name]()
    inputs, weights, biases, relus = case
    peaks: list[Tensor | None] = [None] * len(inputs)
    with library.forced("reference"):
        held = packed(case)
        wanted = layers_int8_reference(inputs, peaks, held, biases, relus)
    for level in LEVELS:
        with library.forced(level), filled_memory():
            for own, of_reference in zip(packed(case), held, strict=True):
                assert torch.equal(own, of_reference), level
            got = layers_int8(inputs, peaks, held, biases, relus)
        assert got.shape == wanted.shape
        assert same(got, wanted), level


@pytest.mark.parametrize("name", ["an OverArch", "parts of all widths", "no relu"])
def test_they_are_about_the_products_in_float32(name: str) -> None:
    case = CASES[name]()
    inputs, _, biases, relus = case
    got = layers_int8(inputs, [None] * len(inputs), packed(case), biases, relus)
    wanted = layers_reference(*case)
    assert (got - wanted).std() < 0.03 * wanted.std()


@pytest.mark.parametrize("d", [1, 16, 17, 128])
def test_stored_codes_give_what_the_floats_of_the_vectors_give(d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    vectors = torch.randn(50, d, generator=generator)
    vectors[0], vectors[1] = 0, 1e-37
    stored = quantize(vectors)
    floats = item_vectors(stored, torch.arange(50))
    # A narrow part would keep 16 bits: codes keep 8.
    wide = [
        torch.cat([floats, torch.zeros(50, 17)], 1),
        torch.cat([stored.codes, torch.zeros(50, 17, dtype=torch.int8)], 1),
    ]
    weight = weights_int8(torch.randn(20, d + 17, generator=generator), [d + 17])
    peaks = stored.scales * FINE_MAX
    for level in library.levels():
        with library.forced(level):
            of_floats = layers_int8([wide[0]], [None], [weight], [None], [False])
            of_codes = layers_int8([wide[1]], [peaks], [weight], [None], [False])
            assert torch.equal(of_floats, of_codes)


def test_a_row_has_the_same_bytes_in_any_company_and_with_any_threads() -> None:
    inputs, weights, biases, relus = case = drawn(3000, [130], [64, 32, 2])
    whole = layers_int8(inputs, [None], packed(case), biases, relus)
    for first, last in ((0, 1), (5, 100), (2999, 3000)):
        part = [x[:, first:last] for x in inputs]
        assert torch.equal(layers_int8(part, [None], packed(case), biases, relus), whole[:, first:last])
    with threads(1):
        assert torch.equal(layers_int8(inputs, [None], packed(case), biases, relus), whole)
    assert len(weights) == 3


def test_inputs_are_read_however_they_lie() -> None:
    inputs, _, biases, relus = case = drawn(40, [20, 7], [9, 2])
    wanted = layers_int8(inputs, [None, None], packed(case), biases, relus)
    spread = [torch.stack([x, x], -1)[..., 0] for x in inputs]
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    for other in (spread, turned):
        assert torch.equal(layers_int8(other, [None, None], packed(case), biases, relus), wanted)
    stored = quantize(inputs[0])
    lying = torch.stack([stored.codes, stored.residuals], -1)[..., 0]
    weights = [weights_int8(torch.ones(4, 20), [20])]
    got = [layers_int8([codes], [stored.scales], weights, [None], [False]) for codes in (stored.codes, lying)]
    assert torch.equal(*got)


def test_a_code_of_a_weight_is_the_nearest_of_255_steps() -> None:
    weight = torch.tensor([[127.0, 0.5, 1.5, -126.6, 4.0, 2.0], [0, 0, 0, 0, 0, -1.0]])
    codes, peaks = unpacked(weights_int8(weight, [4, 2]), 2)
    assert codes.tolist() == [[127, 0, 2, -127, 127, 64], [0, 0, 0, 0, 0, -127]]
    assert peaks.tolist() == [[127.0, 4.0], [0.0, 1.0]]


def refused() -> dict[str, Callable[[Case, list[Tensor]], object]]:
    return {
        "every input needs a peak or None": lambda c, w: layers_int8(c[0], [None], w, c[2], c[3]),
        "inputs must be": lambda c, w: layers_int8([c[0][0].double(), c[0][1]], [None] * 2, w, c[2], c[3]),
        "peaks must be": lambda c, w: layers_int8(
            [c[0][0].to(torch.int8), c[0][1]], [torch.ones(3), None], w, c[2], c[3]
        ),
        "weights must be": lambda c, w: layers_int8(c[0], [None] * 2, w[::-1], c[2], c[3]),
        "bias must be": lambda c, w: layers_int8(c[0], [None] * 2, w, c[2][::-1], c[3]),
        "layers must be 1 to": lambda c, w: layers_int8(
            [c[0][0][..., :0], c[0][1]], [None] * 2, w, c[2], c[3]
        ),
        "weight must be": lambda c, w: weights_int8(c[1][0].double(), [23]),
        "columns must be": lambda c, w: weights_int8(c[1][0], [20, 4]),
    }


@pytest.mark.parametrize("message", refused())
@pytest.mark.parametrize("level", library.levels())
def test_what_does_not_fit_is_refused(message: str, level: str) -> None:
    case = drawn(30, [20, 3], [30, 4])
    with library.forced(level), pytest.raises(ValueError, match=message):
        refused()[message](case, packed(case))


def test_the_operators_are_what_they_are_registered_as() -> None:
    case = drawn(20, [8, 3], [6, 2])
    utils = ("test_schema", "test_faketensor")
    args = (case[0], [None, None], packed(case), case[2], case[3])
    torch.library.opcheck(layers_int8.overload, args, test_utils=utils)
    torch.library.opcheck(weights_int8.overload, (case[1][0], [8, 3]), test_utils=utils)
    assert torch.equal(weights_int8_reference(case[1][0], [8, 3]), weights_int8(case[1][0], [8, 3]))


def same(got: Tensor, wanted: Tensor) -> bool:
    """Byte for byte, but for which NaN it is."""
    told, known = got.isnan(), wanted.isnan()
    bits = (got.masked_fill(told, 0).view(torch.int32), wanted.masked_fill(known, 0).view(torch.int32))
    return torch.equal(told, known) and torch.equal(*bits)


def test_quantized_vectors_have_codes_of_one_scale() -> None:
    stored: Quantized = quantize(torch.tensor([[1.0, -0.5]]))
    assert stored.codes.tolist() == [[127, -63]]
