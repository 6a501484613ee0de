// Sorting integers by counting their digits.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace meshfold {

// Sorts by the bits `low` to `high` - 1 of key(item), ascending, a digit at a time, least first: items that are equal in
// those stay in their order.
template <int kDigit = 11, class Key>
void radix_sort(std::vector<uint64_t>& items, int low, int high, Key key) {
  constexpr uint32_t kDigits = 1 << kDigit;
  std::vector<uint64_t> sorted(items.size());
  for (int shift = low; shift < high; shift += kDigit) {
    std::array<int32_t, kDigits + 1> starts{};
    for (const uint64_t item : items) ++starts[(key(item) >> shift & (kDigits - 1)) + 1];
    // All in one place: nothing to move.
    if (std::find(starts.begin(), starts.end(), static_cast<int32_t>(items.size())) != starts.end()) continue;
    for (uint32_t digit = 0; digit < kDigits; ++digit) starts[digit + 1] += starts[digit];
    for (const uint64_t item : items) sorted[starts[key(item) >> shift & (kDigits - 1)]++] = item;
    std::swap(items, sorted);
  }
}

}  // namespace meshfold
