import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from meshfold.model.errors import SnapshotRefused
from meshfold.model.tensor_file import Streamed, gathered, map_tensors, mark_of, write_tensors

KINDS = ("int8", "uint8", "int16", "int32", "int64", "float32", "float64")
Arrays = dict[str, npt.NDArray[Any]]


def arrays(seed: int = 0) -> Arrays:
    """Every kind in awkward sizes, some of no elements."""
    rng = np.random.default_rng(seed)
    shapes = [(1,), (63,), (7, 9), (3, 5, 7), (0,), (0, 4), (4, 0), (65, 2)]
    return {
        f"{kind}.{place}": rng.integers(0, 100, shape).astype(kind)
        for place, shape in enumerate(shapes)
        for kind in KINDS
    }


def assert_same(found: dict[str, Any], wanted: Arrays) -> None:
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wanted = arrays()
    write_tensors(path, wanted)
    assert_same({n: a for n, a in load_file(path).items() if not n.startswith("padding.")}, wanted)
    assert_same({name: tensor.numpy() for name, tensor in map_tensors(path).items()}, wanted)


def test_the_library_reads_a_file_without_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {})
    assert load_file(tmp_path / "x") == {}
    assert map_tensors(tmp_path / "x") == {}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_every_tensor_starts_at_a_cache_line_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("aligned") / "x"
    wanted = {f"t{i}": np.full(size, i + 1, np.uint8) for i, size in enumerate(sizes)}
    write_tensors(path, wanted)
    raw = path.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    assert (8 + header) % 64 == 0
    for i, size in enumerate(sizes):
        if size:
            assert raw.index(bytes([i + 1]) * size, 8 + header) % 64 == 0
    # Mapped, not copied: the tensors keep the file's alignment in memory.
    for tensor in map_tensors(path).values():
        assert tensor.numel() == 0 or tensor.data_ptr() % 64 == 0


def test_a_mark_is_the_size_and_hash_of_the_file(tmp_path: Path) -> None:
    mark = write_tensors(tmp_path / "x", arrays())
    raw = (tmp_path / "x").read_bytes()
    assert mark == mark_of(tmp_path / "x")
    assert (mark.size_bytes, mark.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize("rows", [1, 3, 64, 1000])
def test_streamed_chunks_give_the_bytes_of_the_whole(tmp_path: Path, rows: int) -> None:
    source = np.random.default_rng(1).standard_normal((130, 3)).astype(np.float32)
    order = np.random.default_rng(2).permutation(130)
    streamed = write_tensors(tmp_path / "a", {"x": gathered(source, order, rows), "y": order})
    assert streamed == write_tensors(tmp_path / "b", {"x": source[order], "y": order})


def test_arrays_of_any_memory_order_give_the_same_bytes(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int64).reshape(6, 10)
    plain = write_tensors(tmp_path / "plain", {"x": array})
    assert write_tensors(tmp_path / "fortran", {"x": np.asfortranarray(array)}) == plain
    assert write_tensors(tmp_path / "reversed", {"x": array[::-1].copy()[::-1]}) == plain


def test_bytes_of_the_other_end_first_are_never_written_as_they_are(tmp_path: Path) -> None:
    array = np.arange(5, dtype=">i8")
    try:
        write_tensors(tmp_path / "x", {"x": array})
    except ValueError:
        return
    np.testing.assert_array_equal(load_file(tmp_path / "x")["x"], array)


def chunks(*arrays: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return iter(arrays)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([np.zeros((2, 3), np.int8)], "x: got 2 rows, expected 4"),
        ([np.zeros((5, 3), np.int8)], "x: got 5 rows, expected 4"),
        ([], "x: got 0 rows, expected 4"),
        ([np.zeros((4, 2), np.int8)], r"x: chunk \(4, 2\) int8 does not fit \(4, 3\)"),
        ([np.zeros((4, 3), np.uint8)], r"x: chunk \(4, 3\) uint8 does not fit"),
        ([np.zeros((4, 3, 1), np.int8)], r"x: chunk \(4, 3, 1\) int8 does not fit"),
        ([np.zeros(12, np.int8)], r"x: chunk \(12,\) int8 does not fit"),
    ],
)
def test_chunks_that_do_not_add_up_are_refused(
    tmp_path: Path, parts: list[npt.NDArray[Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_tensors(tmp_path / "x", {"x": Streamed(np.int8, (4, 3), chunks(*parts))})


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {})
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "x", {})


def test_tensors_outlive_the_name_of_their_file(tmp_path: Path) -> None:
    wanted = arrays()
    write_tensors(tmp_path / "x", wanted)
    found = map_tensors(tmp_path / "x")
    (tmp_path / "x").unlink()
    assert_same({name: tensor.numpy() for name, tensor in found.items()}, wanted)


def test_mapping_a_large_file_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    size = 1 << 28
    block = np.zeros(1 << 22, np.uint8)
    write_tensors(
        tmp_path / "x", {"x": Streamed(np.uint8, (size,), (block for _ in range(size // len(block))))}
    )
    before = private_bytes()
    (tensor,) = map_tensors(tmp_path / "x").values()
    assert not torch.count_nonzero(tensor[:: 1 << 12])
    assert private_bytes() - before < size // 8


def private_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 64, b"{}", (9).to_bytes(8, "little") + b"{}"])
def test_what_is_no_tensor_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(SnapshotRefused, match=r"broken\.safetensors: no safetensors file"):
        map_tensors(path)


@pytest.mark.parametrize("read", [map_tensors, mark_of])
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path, read: Any) -> None:
    with pytest.raises(SnapshotRefused, match="gone"):
        read(tmp_path / "gone")
    with pytest.raises(SnapshotRefused, match=str(tmp_path)):
        read(tmp_path)


def test_only_padding_lies_between_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"a": np.ones(3, np.int8), "b": np.ones(64, np.int8)})
    with safe_open(tmp_path / "x", framework="np") as file:
        assert sorted(file.keys()) == ["a", "b", "padding.a"]
        assert not file.get_tensor("padding.a").any()


def test_mapping_leaves_nothing_in_memory(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", arrays())
    map_tensors(tmp_path / "x")
    before = sys.getallocatedblocks()
    for _ in range(20):
        map_tensors(tmp_path / "x")
    # The format's library would leave two integers for each of the tensors.
    assert sys.getallocatedblocks() - before < 20 * len(arrays())
