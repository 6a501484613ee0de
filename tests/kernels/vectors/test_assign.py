from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from meshfold.kernels.native import library
from meshfold.kernels.vectors.assign import assign

DIMENSIONS = (1, 3, 63, 64, 100, 768)
# Around the groups of items and the panels of clusters of every level.
ITEMS = (1, 5, 6, 7, 8, 9, 252, 256, 257, 513)
CLUSTERS = (1, 2, 15, 16, 17, 48, 49, 97)


@pytest.fixture(autouse=True, scope="module", params=library.levels())
def _level(request: pytest.FixtureRequest) -> Iterator[None]:
    with library.forced(request.param):
        yield


def drawn(seed: int, n: int, c: int, d: int, largest: int = 127) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return (
        torch.from_numpy(rng.integers(-largest, largest + 1, (n, d)).astype(np.int8)),
        torch.from_numpy(rng.random(n, np.float32)),
        torch.from_numpy(rng.integers(-largest, largest + 1, (c, d)).astype(np.int8)),
        torch.from_numpy(rng.random(c, np.float32)),
    )


def slow(
    codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor
) -> npt.NDArray[np.float32]:
    """[n, C] float32: the closeness of every pair, from integers and one float32 operation after the other."""
    x, c = codes.numpy().astype(np.int64), centroids.numpy().astype(np.int64)
    factors = centroid_scales.numpy().astype(np.float64) * 256
    lengths = ((c * c).sum(1) * (factors * factors)).astype(np.float32)
    near = (x @ c.T).astype(np.float32)
    near = near * factors.astype(np.float32)
    near = near * (scales.numpy() * np.float32(512))[:, None] - lengths
    assert near.dtype == np.float32
    return np.asarray(near)


def check(codes: Tensor, scales: Tensor, centroids: Tensor, centroid_scales: Tensor) -> None:
    members, closeness = assign(codes, scales, centroids, centroid_scales)
    expected = slow(codes, scales, centroids, centroid_scales)
    nearest = expected.argmax(1)
    assert (members.dtype, closeness.dtype) == (torch.int64, torch.float32)
    assert members.tolist() == nearest.tolist()
    assert closeness.numpy().tobytes() == expected[np.arange(len(nearest)), nearest].tobytes()


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("c", CLUSTERS)
def test_it_is_the_nearest_by_the_formula(c: int, d: int) -> None:
    for n in ITEMS if d < 700 else (1, 257):
        check(*drawn(n + c + d, n, c, d))


@pytest.mark.parametrize("largest", [0, 1, 2])
@pytest.mark.parametrize("d", [1, 2, 64])
def test_of_many_that_tie_the_smallest_cluster_is_taken(largest: int, d: int) -> None:
    codes, _, centroids, _ = drawn(d, 700, 300, d, largest)
    check(codes, torch.ones(700), centroids, torch.ones(300))
    check(codes, torch.zeros(700), centroids, torch.zeros(300))


@pytest.mark.parametrize("d", [*DIMENSIONS, 4096])
def test_codes_at_their_ends_do_not_overflow(d: int) -> None:
    ends = torch.tensor([-128, -127, 127], dtype=torch.int8)[:, None].expand(3, d).contiguous()
    check(ends.repeat(5, 1), torch.ones(15), ends.repeat(20, 1), torch.linspace(0.1, 1, 60))


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e-20, 1e-10, 1e10, 3e11, 1e12, 1e20, 3e38])
def test_units_of_any_size_give_what_the_reference_gives(scale: float) -> None:
    codes, scales, centroids, centroid_scales = drawn(3, 500, 60, 33)
    arguments = (codes, scales * scale, centroids, centroid_scales * scale)
    members, closeness = assign(*arguments)
    with library.forced("reference"):
        wanted, near = assign(*arguments)
    # Beyond float32 there are infinities and NaN.
    assert torch.equal(members, wanted)
    assert torch.equal(closeness.view(torch.int32), near.view(torch.int32))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 120), st.integers(1, 130), st.integers(0, 127)
)
def test_any_shape_is_answered_by_the_formula(seed: int, n: int, c: int, d: int, largest: int) -> None:
    check(*drawn(seed, n, c, d, largest))


def test_the_company_of_an_item_changes_nothing() -> None:
    codes, scales, centroids, centroid_scales = drawn(1, 300, 50, 40)
    members, closeness = assign(codes, scales, centroids, centroid_scales)
    for i in (0, 1, 7, 8, 255, 256, 299):
        alone = assign(codes[i : i + 1], scales[i : i + 1], centroids, centroid_scales)
        assert alone[0].item() == members[i]
        assert alone[1].item() == closeness[i]


def test_no_item_has_no_cluster() -> None:
    codes, scales, centroids, centroid_scales = drawn(1, 0, 5, 8)
    members, closeness = assign(codes, scales, centroids, centroid_scales)
    assert members.shape == closeness.shape == (0,)


def test_shapes_that_do_not_fit_are_refused() -> None:
    codes, scales, centroids, centroid_scales = drawn(1, 4, 5, 8)
    with pytest.raises(ValueError, match=r"centroids must be \[C, 8\] int8, got \[5, 7\]"):
        assign(codes, scales, centroids[:, :7], centroid_scales)
    with pytest.raises(ValueError, match=r"scales must be \[4\] float32, got \[3\]"):
        assign(codes, scales[:3], centroids, centroid_scales)
    with pytest.raises(ValueError, match=r"centroid_scales must be \[5\] float32, got \[4\]"):
        assign(codes, scales, centroids, centroid_scales[:4])
    with pytest.raises(ValueError, match="C at least 1"):
        assign(codes, scales, centroids[:0], centroid_scales[:0])
