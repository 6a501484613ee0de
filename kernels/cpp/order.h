// Scored things in order: best first, ties to the smaller row; order as in kernels/ordered.py.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "few.h"
#include "radix.h"
#include "select.h"

namespace meshfold {

// Ascending integers are the best first. Not for NaN.
inline uint64_t entry_of(float score, uint32_t place) {
  const uint64_t high = ~(static_cast<uint32_t>(ordered(score)) ^ 0x80000000u);
  return high << 32 | place;
}

// Puts the best k entries in order and drops the others. row: of a place; rows differ.
template <class Row>
void put_in_order(std::vector<uint64_t>& entries, int64_t k, Row row) {
  const auto row_of = [&](uint64_t entry) { return row(static_cast<uint32_t>(entry)); };
  const auto better = [&](uint64_t x, uint64_t y) {
    return x >> 32 != y >> 32 ? x >> 32 < y >> 32 : row_of(x) < row_of(y);
  };
  if (entries.empty()) return;
  // Scores of one query lie close together: the bits in which they differ are few.
  uint64_t least = ~uint64_t{0}, most = 0;
  for (const uint64_t entry : entries) {
    least = std::min(least, entry >> 32);
    most = std::max(most, entry >> 32);
  }
  const auto key = [&](uint64_t entry) { return entry - (least << 32); };
  const int bits = std::bit_width(most - least);
  // Only steps in which some of the best lie are put in order.
  if (k < static_cast<int64_t>(entries.size())) {
    constexpr int kStepBits = 8;
    const int shift = 32 + std::max(bits - kStepBits, 0);
    std::array<int32_t, 1 << kStepBits> counts{};
    for (const uint64_t entry : entries) ++counts[key(entry) >> shift];
    uint64_t last = 0;
    for (int64_t reached = counts[0]; reached < k;) reached += counts[++last];
    size_t kept = 0;
    for (const uint64_t entry : entries) {
      entries[kept] = entry;
      kept += key(entry) >> shift <= last;
    }
    entries.resize(kept);
  }
  if (static_cast<int64_t>(entries.size()) <= kMostFew) {
    sort_few(entries.data(), static_cast<int64_t>(entries.size()));
  } else if (entries.size() < 4096) {
    // More rounds take less than to clear and add up as many counts as there are entries.
    radix_sort<8>(entries, 32, 32 + bits, key);
  } else {
    radix_sort(entries, 32, 32 + bits, key);
  }
  for (auto first = entries.begin(); first != entries.end();) {
    auto stop = first + 1;
    while (stop != entries.end() && *stop >> 32 == *first >> 32) ++stop;
    if (stop - first > 1) std::sort(first, stop, better);
    first = stop;
  }
  if (k < static_cast<int64_t>(entries.size())) entries.resize(k);
}

}  // namespace meshfold
