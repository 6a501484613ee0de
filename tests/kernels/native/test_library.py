from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from meshfold.kernels.native import library, structs
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found
from tests.kernels.search_cases import SearchCase, search_case

HEADER = Path(__file__).resolve().parents[3] / "kernels" / "cpp" / "native" / "meshfold.h"
NEEDS_LIBRARY = pytest.mark.skipif(library.levels() == ["reference"], reason="the kernels are not built here")
# Two searches, so that what is told once is told once.
SEARCH = """
from meshfold.kernels.native import library, structs
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found
from tests.kernels.search_cases import search_case
case = search_case([3, 4])
for _ in range(2):
    found = search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)
print(library.level(), found.positions.tolist())
"""


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, with no setting of the kernels but those given."""
    kept = {name: value for name, value in os.environ.items() if name != "MESHFOLD_KERNELS"}
    # The repository comes last, where its folders hide no package.
    path = f"import sys; sys.path.append({str(HEADER.parents[3])!r})\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", path + code],
        env=kept | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def run(case: SearchCase) -> Found:
    return search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


def answers(level: str) -> str:
    """What SEARCH prints."""
    return f"{level} {run(search_case([3, 4])).positions.tolist()}\n"


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The library is looked for anew, in the environment that a test makes with what it is given."""
    before = library.level()
    monkeypatch.delenv("MESHFOLD_KERNELS", raising=False)
    library._load.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    library._load.cache_clear()
    if library.is_available():
        library.loaded().meshfold_isa(library._LEVELS.index(before))


def test_the_kernels_are_there_where_a_compiler_is(loading: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    assert library.level() in ("plain", "avx2", "avx512")


@pytest.mark.parametrize("level", library.levels())
def test_the_environment_forces_a_level(level: str, loading: pytest.MonkeyPatch) -> None:
    loading.setenv("MESHFOLD_KERNELS", level)
    assert library.level() == level
    assert run(search_case([3, 4])).positions.shape == (1, 1, 20)


def test_a_level_that_no_one_knows_is_refused_by_name(loading: pytest.MonkeyPatch) -> None:
    loading.setenv("MESHFOLD_KERNELS", "avx1024")
    with pytest.raises(
        ValueError, match="MESHFOLD_KERNELS must be one of reference, plain, avx2, avx512, got 'avx"
    ):
        run(search_case([3, 4]))


def test_a_forced_level_answers_the_same_in_silence() -> None:
    level = library.levels()[:2][-1]
    told = python(SEARCH, MESHFOLD_KERNELS=level)
    assert (told.stdout, told.stderr) == (answers(level), "")


def test_without_its_library_a_process_answers_the_same_and_says_so_once() -> None:
    told = python(SEARCH, MESHFOLD_KERNELS_LIBRARY="/nowhere/_native.so")
    assert told.stdout == answers("reference")
    assert told.stderr.count("\n") == 1
    assert "/nowhere/_native.so" in told.stderr
    assert "Remedy: " in told.stderr


def missing(_: Path) -> str:
    return "/nowhere/_native.so"


def damaged(folder: Path) -> str:
    (folder / "_native.so").write_bytes(b"\x7fELF and no more")
    return str(folder / "_native.so")


def foreign(_: Path) -> str:
    return "libm.so.6"


@pytest.mark.parametrize("file", [missing, damaged, foreign])
def test_what_cannot_be_loaded_is_named_once(
    file: Callable[[Path], str],
    tmp_path: Path,
    loading: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = file(tmp_path)
    loading.setenv("MESHFOLD_KERNELS_LIBRARY", path)
    for _ in range(2):
        run(search_case([3, 4]))
    assert library.level() == "reference"
    (record,) = caplog.records
    assert record.name == "meshfold"
    assert f"{path} cannot be loaded" in record.getMessage()


def test_a_package_that_was_installed_without_a_compiler_says_so_once(
    loading: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loading.delenv("MESHFOLD_KERNELS_LIBRARY", raising=False)
    loading.setattr(library, "_installed", lambda: None)
    for _ in range(2):
        run(search_case([3, 4]))
    (record,) = caplog.records
    assert "for want of a C++ compiler" in record.getMessage()


@NEEDS_LIBRARY
def test_a_library_of_another_version_is_not_called(
    loading: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version = library._ABI
    loading.setattr(library, "_ABI", version + 1)
    for _ in range(2):
        run(search_case([3, 4]))
    assert library.level() == "reference"
    (record,) = caplog.records
    assert f"is of another version ({version}, this one needs {version + 1})" in record.getMessage()
    assert "Remedy: " in record.getMessage()


def test_who_asks_for_the_reference_is_not_told_of_a_missing_library(
    loading: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loading.setenv("MESHFOLD_KERNELS", "reference")
    loading.setenv("MESHFOLD_KERNELS_LIBRARY", "/nowhere/_native.so")
    assert library.level() == "reference"
    assert not caplog.records


def test_forced_restores_also_after_an_error() -> None:
    before = library.level()
    for level in library.levels():
        with library.forced(level):
            assert library.level() == level
            with library.forced("reference"):
                assert library.level() == "reference"
                assert not library.is_available()
            assert library.level() == level
            with pytest.raises(KeyError), library.forced(library.levels()[-1]):
                raise KeyError
            assert library.level() == level
            assert library.levels()[0] == "reference"
        assert library.level() == before
    with (
        pytest.raises(ValueError, match=r"kernels run at reference.* here, not at 'sse'"),
        library.forced("sse"),
    ):
        pass
    assert library.level() == before


@NEEDS_LIBRARY
def test_what_the_kernels_refuse_is_a_value_error_with_their_words() -> None:
    case = search_case([5], depth=[3])
    with pytest.raises(ValueError, match="candidates"):
        run(replace(case, k=2))


@NEEDS_LIBRARY
def test_each_thread_reads_its_own_message() -> None:
    deep = replace(search_case([5], depth=[3]), k=2)
    wrong = search_case([5])
    wrong.programs.steps[0, 0, 0] = 99
    words = {"candidates": deep, "opcode 99": wrong}

    def refused(said: str) -> None:
        for _ in range(200):
            with pytest.raises(ValueError, match=said):
                run(words[said])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(refused, [*words] * 4))


def test_a_table_with_gaps_is_refused_instead_of_copied() -> None:
    table = torch.zeros((4, 6))
    assert library.contiguous("codes", table) is table
    with pytest.raises(ValueError, match="codes must be contiguous"):
        library.contiguous("codes", table[:, :3])


def test_room_for_more_results_than_are_counted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1 queries, 1 vectors each, have room for 2147483648 results each"):
        run(replace(search_case([5], depth=[3]), k=1 << 31))


def test_codes_and_residuals_may_lie_side_by_side_but_must_lie_alike() -> None:
    codes, residuals = torch.zeros((2, 5, 6), dtype=torch.int8)
    assert library.row_stride(codes, residuals) == 6
    together = torch.zeros((5, 2, 6), dtype=torch.int8)
    assert library.row_stride(together[:, 0], together[:, 1]) == 12
    # Of one item no distance is told, of none nothing.
    assert library.row_stride(together[:1, 0], residuals[:1]) == 6
    assert library.row_stride(codes.T[:0], residuals.T[:0]) == 5
    with pytest.raises(ValueError, match="must lie alike, got rows 12 and 6 bytes apart"):
        library.row_stride(together[:, 0], residuals)
    for gaps in (codes[:, ::2], codes.T):
        with pytest.raises(ValueError, match="residuals must be contiguous; call"):
            library.row_stride(torch.zeros(gaps.shape, dtype=torch.int8), gaps)
    with pytest.raises(ValueError, match="codes must be on the CPU, as the queries are, got meta"):
        library.row_stride(codes.to("meta"), residuals)


def test_threads_are_torchs() -> None:
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert library.threads().value == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("struct", [structs.FilterIndex, structs.FilterBatch, structs.Ivf])
def test_structs_are_those_of_the_header(struct: type[ctypes.Structure]) -> None:
    (body,) = re.findall(rf"struct {struct.__name__} {{\n(.*?)}};", HEADER.read_text(), re.DOTALL)
    declared = re.findall(r"^ *(.*?[ *])(\w+);", body, re.MULTILINE)
    kinds = [ctypes.c_void_p if "*" in kind else {"int64_t ": ctypes.c_int64}[kind] for kind, _ in declared]
    assert list(struct._fields_) == [(name, kind) for (_, name), kind in zip(declared, kinds, strict=True)]


def test_the_version_is_that_of_the_header() -> None:
    assert f"kAbi = {library._ABI};" in HEADER.read_text()
