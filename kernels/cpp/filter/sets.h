// Sets of the 512 items of a bundle, inlined into a function for each level.
#pragma once

#include <cstdint>
#include <cstring>

#include "native/isa.h"
#include "native/meshfold.h"

namespace meshfold {

// Vectors of eight words: GCC makes scalar code of loops of eight.
using Words = uint64_t __attribute__((vector_size(kWords * sizeof(uint64_t)), may_alias));
using FourWords = uint64_t __attribute__((vector_size(4 * sizeof(uint64_t)), may_alias));

struct alignas(64) Set {
  Words words;
};

// Loads eight words from any address.
MESHFOLD_INLINE void load(Set& out, const uint64_t* words) { std::memcpy(&out, words, sizeof(Set)); }

MESHFOLD_INLINE void store(uint64_t* words, const Set& set) { std::memcpy(words, &set, sizeof(Set)); }

MESHFOLD_INLINE void fill(Set& out, uint64_t word) { out.words = Words{} | word; }

MESHFOLD_INLINE bool is_empty(const Set& set) {
  FourWords half[2];
  std::memcpy(half, &set, sizeof(Set));
  const FourWords any = half[0] | half[1];
  return (any[0] | any[1] | any[2] | any[3]) == 0;
}

MESHFOLD_INLINE void intersect(Set& x, const Set& y) { x.words &= y.words; }

// Intersects with eight words in memory.
MESHFOLD_INLINE void among(const uint64_t* words, Set& out) {
  Set other;
  load(other, words);
  intersect(out, other);
}

MESHFOLD_INLINE void unite(Set& x, const Set& y) { x.words |= y.words; }

MESHFOLD_INLINE void complement(Set& x) { x.words = ~x.words; }

MESHFOLD_INLINE void subtract(Set& x, const Set& y) { x.words &= ~y.words; }

// Counts are bit-sliced: plane i holds bit i of each item's count, `stride` sets apart.
MESHFOLD_INLINE void count_in(Set* planes, int32_t bits, int32_t stride, const Set& operand) {
  Set carry = operand;
  for (int32_t i = 0; i < bits; ++i) {
    Set& plane = planes[i * stride];
    const Words both = plane.words & carry.words;
    plane.words ^= carry.words;
    carry.words = both;
  }
}

// Items whose count is `least` or more, in place of the lowest plane.
MESHFOLD_INLINE void counted(Set* planes, int32_t bits, int32_t stride, int64_t least) {
  Set greater, equal;
  fill(greater, 0);
  fill(equal, least >> bits == 0 || least <= 0 ? ~uint64_t{0} : 0);
  for (int32_t i = bits - 1; i >= 0 && least > 0; --i) {
    const Set& plane = planes[i * stride];
    if (least >> i & 1) {
      equal.words &= plane.words;
    } else {
      greater.words |= equal.words & plane.words;
      equal.words &= ~plane.words;
    }
  }
  unite(greater, equal);
  planes[0] = greater;
}

}  // namespace meshfold
