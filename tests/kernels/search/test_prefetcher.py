"""What a scan asks the memory for ahead changes no answer: a program of its own tells which items that is."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.kernels.search.coarse import packed_bytes

SOURCES = Path(__file__).resolve().parents[3] / "kernels" / "cpp"
AT_ONCE, BLOCK = 16, 128
# Reads: bytes ahead, dimension, where to stop; clusters' sizes and which are opened; items of a list; items of all; the
# stretches that are not scored in a row. Writes the plan's stretches, then a line for each block that is scored: its
# stretch and position, and what is asked for meanwhile.
PROGRAM = r"""
#include <algorithm>
#include <iostream>
#include <vector>
#include "search/plan.h"
using namespace meshfold;
std::vector<int32_t> numbers() {
  int64_t count;
  std::cin >> count;
  std::vector<int32_t> read(count);
  for (auto& number : read) std::cin >> number;
  return read;
}
int main() {
  int64_t bytes, dimension, stop, all;
  std::cin >> bytes >> dimension >> stop;
  std::vector<int64_t> offsets{0};
  for (const int32_t size : numbers()) offsets.push_back(offsets.back() + size);
  Opened opened;
  opened.clusters = numbers();
  const std::vector<int32_t> list(numbers().size());
  std::cin >> all;
  const std::vector<int32_t> left_out = numbers();
  Plan plan;
  plan.add_clusters(&opened, 1, offsets.data(), static_cast<int64_t>(offsets.size()) - 1);
  plan.add_list(list, 1024, 1, 1);
  plan.add_all(all, 8192, {2});
  std::cout << plan.size() << "\n";
  for (int64_t u = 0; u < plan.size(); ++u) {
    std::cout << plan[u].first << " " << plan[u].last << " " << (plan[u].list != nullptr) << "\n";
  }
  Ivf ivf{};
  const std::vector<uint8_t> coarse(1);
  const std::vector<float> scales(1);
  ivf.coarse = coarse.data();
  ivf.scales = scales.data();
  ivf.dimension = dimension;
  stop = std::min(stop, plan.size());
  Prefetcher ahead(plan, stop, ivf, bytes);
  for (int64_t u = 0; u < stop; ++u) {
    if (plan[u].list || std::count(left_out.begin(), left_out.end(), u)) continue;
    for (int64_t first = plan[u].first; first < plan[u].last; first += Prefetcher::kMost) {
      const int64_t items = std::min(Prefetcher::kMost, plan[u].last - first);
      const int64_t* places = ahead.next(u, first, items);
      std::cout << u << " " << first;
      for (int64_t i = 0; places && i * kPrefetchItems < items; ++i) std::cout << " " << first + places[i];
      std::cout << "\n";
    }
  }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("lookahead")
    source, program = folder / "lookahead.cpp", folder / "lookahead"
    source.write_text(PROGRAM)
    parts = [SOURCES / "search" / "plan.cpp"]
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-I", SOURCES, source, *parts, "-o", program],
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return program


@dataclass(frozen=True)
class Scan:
    """ahead: items, a multiple of AT_ONCE. dimension: of them."""

    ahead: int
    dimension: int
    stop: int
    sizes: list[int]
    opened: list[int]
    listed: int
    all: int
    left_out: list[int]

    def to_text(self) -> str:
        bytes_ahead = self.ahead * packed_bytes(self.dimension)
        lists = [f"{len(part)} {' '.join(map(str, part))}" for part in (self.sizes, self.opened)]
        zeros = f"{self.listed} {'0 ' * self.listed}"
        left_out = f"{len(self.left_out)} {' '.join(map(str, self.left_out))}"
        return "\n".join(
            [f"{bytes_ahead} {self.dimension} {self.stop}", *lists, zeros, str(self.all), left_out]
        )


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    sizes = draw(st.lists(st.integers(0, 700), min_size=1, max_size=12))
    return Scan(
        ahead=AT_ONCE * draw(st.integers(0, 40)),
        dimension=draw(st.sampled_from([2, 64, 128, 768])),
        stop=draw(st.integers(0, 20)),
        sizes=sizes,
        opened=draw(st.lists(st.integers(0, len(sizes) - 1), unique=True)),
        listed=draw(st.sampled_from([0, 1, 1500])),
        all=draw(st.sampled_from([0, 1, 9000])),
        left_out=draw(st.lists(st.integers(0, 20), max_size=4)),
    )


@settings(deadline=None, max_examples=150)
@given(scan=scans())
def test_items_are_asked_for_so_far_ahead_from_stretch_to_stretch(scan: Scan, program: Path) -> None:
    told = subprocess.run([program], input=scan.to_text(), text=True, capture_output=True, check=True)
    lines = [[int(number) for number in line.split()] for line in told.stdout.splitlines()]
    size = lines[0][0]
    stretches, blocks = lines[1 : 1 + size], lines[1 + size :]
    # Every place where AT_ONCE items begin, in the order in which they are read; items of lists are not read in a row.
    places = [
        (u, position)
        for u, (first, last, is_list) in enumerate(stretches[: scan.stop])
        if not is_list
        for position in range(first, last, AT_ONCE)
    ]
    asked: dict[tuple[int, int], int] = {}
    for u, first, *wanted in blocks:
        last = min(first + BLOCK, stretches[u][1])
        own = [(u, position) for position in range(first, last, AT_ONCE)]
        assert len(wanted) == (len(own) if scan.ahead else 0)
        asked |= dict(zip(own, wanted, strict=False))
        for place, position in zip(own, wanted, strict=False):
            later = places.index(place) + scan.ahead // AT_ONCE
            assert position == (places[later][1] if later < len(places) else first)
    scored = [place for place in places if place[0] not in scan.left_out]
    assert list(asked) == (scored if scan.ahead else [])
