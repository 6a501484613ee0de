// Sorting by score, best first, ties to the smaller row; order as in kernels/search/ordered.py.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "search/select.h"

namespace meshfold {

// Sorts ascending with the best score first. Not for NaN.
inline uint64_t entry_of(float score, uint32_t place) {
  const uint64_t high = ~(static_cast<uint32_t>(ordered(score)) ^ 0x80000000u);
  return high << 32 | place;
}

// Sorts by bits `low` to `high` - 1 of key(item), ascending, a digit at a time, the lowest first. Items that are equal
// in these bits keep their order.
template <class Key>
void radix_sort(std::vector<uint64_t>& items, int low, int high, Key key) {
  constexpr int kDigit = 8;
  constexpr uint32_t kDigits = 1 << kDigit;
  std::vector<uint64_t> sorted(items.size());
  for (int shift = low; shift < high; shift += kDigit) {
    std::array<int32_t, kDigits + 1> starts{};
    for (const uint64_t item : items) ++starts[(key(item) >> shift & (kDigits - 1)) + 1];
    // All items share the digit.
    if (std::find(starts.begin(), starts.end(), static_cast<int32_t>(items.size())) != starts.end()) continue;
    for (uint32_t digit = 0; digit < kDigits; ++digit) starts[digit + 1] += starts[digit];
    for (const uint64_t item : items) sorted[starts[key(item) >> shift & (kDigits - 1)]++] = item;
    std::swap(items, sorted);
  }
}

// Sorts the best `most` entries and drops the others. row(place): the row, each once.
template <class Row>
void put_in_order(std::vector<uint64_t>& entries, int64_t most, Row row) {
  const auto row_of = [&](uint64_t entry) { return row(static_cast<uint32_t>(entry)); };
  const auto better = [&](uint64_t x, uint64_t y) {
    return x >> 32 != y >> 32 ? x >> 32 < y >> 32 : row_of(x) < row_of(y);
  };
  if (entries.empty()) return;
  // Scores of one query are close to each other, so that they differ in few bits.
  uint64_t lowest = ~uint64_t{0}, highest = 0;
  for (const uint64_t entry : entries) {
    lowest = std::min(lowest, entry >> 32);
    highest = std::max(highest, entry >> 32);
  }
  const auto key = [&](uint64_t entry) { return entry - (lowest << 32); };
  const int bits = std::bit_width(highest - lowest);
  // Only the value ranges that hold some of the best are sorted.
  if (most < static_cast<int64_t>(entries.size())) {
    constexpr int kStepBits = 8;
    const int shift = 32 + std::max(bits - kStepBits, 0);
    std::array<int32_t, 1 << kStepBits> counts{};
    for (const uint64_t entry : entries) ++counts[key(entry) >> shift];
    uint64_t last = 0;
    for (int64_t reached = counts[0]; reached < most;) reached += counts[++last];
    size_t kept = 0;
    for (const uint64_t entry : entries) {
      entries[kept] = entry;
      kept += key(entry) >> shift <= last;
    }
    entries.resize(kept);
  }
  radix_sort(entries, 32, 32 + bits, key);
  for (auto first = entries.begin(); first != entries.end();) {
    auto stop = first + 1;
    while (stop != entries.end() && *stop >> 32 == *first >> 32) ++stop;
    if (stop - first > 1) std::sort(first, stop, better);
    first = stop;
  }
  if (most < static_cast<int64_t>(entries.size())) entries.resize(most);
}

}  // namespace meshfold
