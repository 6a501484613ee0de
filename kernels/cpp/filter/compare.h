// Compares columns with bounds and values, many items at a time; counts set bits.
#pragma once

#include <cstdint>

namespace meshfold {

// Bit j is set where low <= column[j] <= high, for 64 integers.
using Between32 = uint64_t (*)(const int32_t* column, int32_t low, int32_t high);
using Between64 = uint64_t (*)(const int64_t* column, int64_t low, int64_t high);

// found[r]: whether column[first[r]] to column[last[r] - 1] has any of the wanted values.
using AnyOf32 = void (*)(const int32_t* column, const int64_t* first, const int64_t* last, int64_t runs,
                         const int64_t* wanted, int32_t count, bool* found);
using AnyOf64 = void (*)(const int64_t* column, const int64_t* first, const int64_t* last, int64_t runs,
                         const int64_t* wanted, int32_t count, bool* found);

struct Comparisons {
  Between32 between32;
  Between64 between64;
  AnyOf32 any_of32;
  AnyOf64 any_of64;
};

// For the level in use.
const Comparisons& comparisons() noexcept;

// Bits set in `count` words.
int64_t popcount(const uint64_t* words, int64_t count) noexcept;

}  // namespace meshfold
