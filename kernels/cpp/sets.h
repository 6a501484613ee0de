// Sets of the 512 items of a bundle. Inlined into a function for one level, they run at that level.
#pragma once

#include <cstdint>

#include "meshfold.h"

namespace meshfold {

#define MESHFOLD_INLINE static inline __attribute__((always_inline))

struct alignas(64) Set {
  uint64_t words[kWords];
};

MESHFOLD_INLINE void fill(Set& out, uint64_t word) {
  for (int w = 0; w < kWords; ++w) out.words[w] = word;
}

MESHFOLD_INLINE bool is_empty(const Set& set) {
  uint64_t any = 0;
  for (int w = 0; w < kWords; ++w) any |= set.words[w];
  return any == 0;
}

MESHFOLD_INLINE void intersect(Set& x, const Set& y) {
  for (int w = 0; w < kWords; ++w) x.words[w] &= y.words[w];
}

MESHFOLD_INLINE void unite(Set& x, const Set& y) {
  for (int w = 0; w < kWords; ++w) x.words[w] |= y.words[w];
}

MESHFOLD_INLINE void complement(Set& x) {
  for (int w = 0; w < kWords; ++w) x.words[w] = ~x.words[w];
}

MESHFOLD_INLINE void subtract(Set& x, const Set& y) {
  for (int w = 0; w < kWords; ++w) x.words[w] &= ~y.words[w];
}

// Counts are bit-sliced: plane i holds bit i of each item's count, `stride` sets apart.
MESHFOLD_INLINE void count_in(Set* planes, int32_t bits, int32_t stride, const Set& operand) {
  Set carry = operand;
  for (int32_t i = 0; i < bits; ++i) {
    Set& plane = planes[i * stride];
    for (int w = 0; w < kWords; ++w) {
      const uint64_t both = plane.words[w] & carry.words[w];
      plane.words[w] ^= carry.words[w];
      carry.words[w] = both;
    }
  }
}

// Items whose count is `least` or more, in place of the lowest plane.
MESHFOLD_INLINE void counted(Set* planes, int32_t bits, int32_t stride, int64_t least) {
  Set greater, equal;
  fill(greater, 0);
  fill(equal, least >> bits == 0 || least <= 0 ? ~uint64_t{0} : 0);
  for (int32_t i = bits - 1; i >= 0 && least > 0; --i) {
    const Set& plane = planes[i * stride];
    for (int w = 0; w < kWords; ++w) {
      if (least >> i & 1) {
        equal.words[w] &= plane.words[w];
      } else {
        greater.words[w] |= equal.words[w] & plane.words[w];
        equal.words[w] &= ~plane.words[w];
      }
    }
  }
  unite(greater, equal);
  planes[0] = greater;
}

}  // namespace meshfold
