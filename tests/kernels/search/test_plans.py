from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.native import library
from meshfold.kernels.search.ivf_search import search
from meshfold.kernels.search.tensors import Found
from tests.kernels.hard_cases import SEARCHES
from tests.kernels.search_cases import SearchCase

SOURCE = Path(__file__).resolve().parents[3] / "kernels" / "cpp" / "search" / "search.cpp"
# The defaults of the native kernels.
FILTER_FIRST, GATHER = 1.0, 0.5
NEWER_AMD_PREFETCH_BYTES = 16384
EXTREME = [0.0, 1e-300, 0.01, 0.5, 1.0, 1.5, 100.0, 1e300]
NEEDS_LIBRARY = pytest.mark.skipif(library.levels() == ["reference"], reason="the kernels are not built here")
# In which filters, clusters and survivors are of many kinds.
CASES = [name for name in SEARCHES if "2 GiB" not in name and not name.startswith(("D =", "largest"))]


def default_prefetch_bytes() -> int:
    """The prefetch distance of a scan that the native kernels choose by processor."""
    return int(library.loaded().meshfold_usual_ahead())


@contextmanager
def planned(filter_first: float, gather: float, prefetch_bytes: float) -> Iterator[None]:
    """Runs the body with other thresholds of plans, then sets the defaults again. The thresholds are those of
    meshfold_tune in kernels/cpp/search/search.cpp, and of the whole process."""
    set_thresholds(filter_first, gather, prefetch_bytes)
    try:
        yield
    finally:
        set_thresholds(FILTER_FIRST, GATHER, default_prefetch_bytes())


def set_thresholds(*thresholds: float) -> None:
    library.loaded().meshfold_tune(*map(ctypes.c_double, thresholds))


def run(case: SearchCase) -> Found:
    return search(case.vectors, case.ivf, case.filter, case.programs, case.limits, case.k)


@NEEDS_LIBRARY
@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(CASES),
    filter_first=st.sampled_from(EXTREME) | st.floats(0, 20),
    gather=st.sampled_from(EXTREME) | st.floats(0, 2),
    prefetch_bytes=st.sampled_from(EXTREME) | st.floats(0, 1 << 18),
)
def test_every_plan_gives_the_same_answer(
    name: str, filter_first: float, gather: float, prefetch_bytes: float
) -> None:
    case = SEARCHES[name]()
    expected = run(case)
    with planned(filter_first, gather, prefetch_bytes):
        found = run(case)
    for field in fields(Found):
        assert torch.equal(getattr(found, field.name), getattr(expected, field.name)), field.name


def test_the_native_kernels_start_with_the_defaults() -> None:
    declared = re.findall(r"std::atomic<double> (\w+)_below\{(.*?)\};", SOURCE.read_text())
    assert {name: float(value) for name, value in declared} == {
        "filter_first": FILTER_FIRST,
        "gather": GATHER,
    }
    assert (
        "std::atomic<double> scan_prefetch{static_cast<double>(default_prefetch_bytes())};"
        in SOURCE.read_text()
    )


@NEEDS_LIBRARY
def test_the_default_prefetch_distance_depends_on_the_processor() -> None:
    description = Path("/proc/cpuinfo")
    processor = (
        dict(re.findall(r"^(vendor_id|cpu family)\s*: (\S+)$", description.read_text(), re.MULTILINE))
        if description.exists()
        else {}
    )
    if not processor:
        pytest.skip("the processor's family is unknown here")
    is_newer_amd = processor["vendor_id"] == "AuthenticAMD" and int(processor["cpu family"]) >= 26
    assert default_prefetch_bytes() == (NEWER_AMD_PREFETCH_BYTES if is_newer_amd else 0)
