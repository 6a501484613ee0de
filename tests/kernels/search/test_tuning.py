from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.native import library
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found
from meshfold.kernels.search.tuning import Tuning, in_use, read_tuning, use, using, write_tuning
from tests.kernels.hard_cases import SEARCHES
from tests.kernels.search_cases import SearchCase

SOURCE = Path(__file__).resolve().parents[3] / "kernels" / "cpp" / "search" / "search.cpp"
EXTREME = [0.0, 1e-300, 0.01, 0.5, 1.0, 1.5, 100.0, 1e300]
NEEDS_LIBRARY = pytest.mark.skipif(library.levels() == ["reference"], reason="the kernels are not built here")
# In which filters, clusters and survivors are of many kinds.
CASES = [name for name in SEARCHES if "2 GiB" not in name and not name.startswith(("D =", "largest"))]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with using(in_use()):
        yield


def run(case: SearchCase) -> Found:
    return search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(CASES),
    filter_first=st.sampled_from(EXTREME) | st.floats(0, 20),
    gather=st.sampled_from(EXTREME) | st.floats(0, 2),
    scan_ahead=st.sampled_from(EXTREME) | st.floats(0, 1 << 18),
)
def test_no_setting_changes_an_answer(
    name: str, filter_first: float, gather: float, scan_ahead: float
) -> None:
    case = SEARCHES[name]()
    with using(Tuning()):
        wanted = run(case)
    with using(Tuning(filter_first, gather, scan_ahead)):
        got = run(case)
    for field in fields(Found):
        assert torch.equal(getattr(got, field.name), getattr(wanted, field.name)), field.name


def test_settings_hold_until_they_are_restored() -> None:
    before = in_use()
    with using(Tuning(3.0, 0.25)):
        assert in_use() == Tuning(3.0, 0.25)
        with pytest.raises(KeyError), using(Tuning(0.0, 0.0)):
            raise KeyError
        assert in_use() == Tuning(3.0, 0.25)
    assert in_use() == before
    with library.forced("reference"):
        use(Tuning(5.0, 1.0))
    assert in_use() == Tuning(5.0, 1.0)


def test_the_native_kernels_start_with_the_defaults() -> None:
    declared = re.findall(r"std::atomic<double> (\w+)_below\{(.*?)\};", SOURCE.read_text())
    usual = Tuning()
    assert {name: float(value) for name, value in declared} == {
        "filter_first": usual.filter_first,
        "gather": usual.gather,
    }
    assert (
        "std::atomic<double> scan_prefetch{static_cast<double>(default_prefetch_bytes())};"
        in SOURCE.read_text()
    )


@NEEDS_LIBRARY
def test_what_is_asked_for_ahead_is_as_usual_on_the_processor() -> None:
    processor = Path("/proc/cpuinfo")
    told = (
        dict(re.findall(r"^(vendor_id|cpu family)\s*: (\S+)$", processor.read_text(), re.MULTILINE))
        if processor.exists()
        else {}
    )
    if not told:
        pytest.skip("nothing here tells the processor's family")
    newer = told["vendor_id"] == "AuthenticAMD" and int(told["cpu family"]) >= 26
    assert Tuning().scan_ahead == (16384 if newer else 0)
    with library.forced("reference"):
        assert Tuning() == Tuning(scan_ahead=16384 if newer else 0)


@pytest.mark.parametrize("tuning", [Tuning(), Tuning(0.0, 1e300, 1.0), Tuning(1 / 3, 0.1)])
def test_what_is_written_is_read(tuning: Tuning, tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    for _ in range(2):
        write_tuning(tuning, file, "one line\nand another")
        assert read_tuning(file) == tuning
        assert file.read_text().startswith("# one line\n# and another\nfilter_first = ")
        assert [path.name for path in tmp_path.iterdir()] == ["tuning.toml"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    file.mkdir()
    with pytest.raises(OSError, match="tuning.toml"):
        write_tuning(Tuning(), file, "")
    assert [path.name for path in tmp_path.iterdir()] == ["tuning.toml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filter_last = 1.0", "unknown setting filter_last; known ones: filter_first, gather, scan_ahead"),
        ("gather = '1'", "gather must be a number, at least 0, got '1'"),
        ("gather = true", "gather must be a number, at least 0, got True"),
        ("gather = -0.5", "gather must be a number, at least 0, got -0.5"),
        ("filter_first = nan", "filter_first must be a number, at least 0, got nan"),
        ("filter_first = inf", "filter_first must be a number, at least 0, got inf"),
        ("gather =", "is not a TOML file"),
        ("\ufeff\x00", "is not a TOML file"),
    ],
)
def test_a_file_that_does_not_fit_says_so(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_tuning(file)
    assert str(file) in str(caught.value)


def test_a_setting_that_is_left_out_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text("gather = 1")
    assert read_tuning(file) == Tuning(gather=1)
    assert math.isclose(read_tuning(file).filter_first, Tuning().filter_first)
