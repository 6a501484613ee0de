// Rounding and magnitudes of floats, inlined into a function for each level: no std template may be used here.
#pragma once

#include <cstdint>

#include "native/isa.h"

namespace meshfold {

// The nearest integer, ties to even, of a float64 below 2^51: at 1.5 * 2^52 the sum has no fraction.
MESHFOLD_INLINE double round_even(double value) {
  constexpr double kRound = 6755399441055744.0;
  return (value + kRound) - kRound;
}

// The same of a float32 below 2^22.
MESHFOLD_INLINE int32_t nearest(float value) {
  constexpr float kRound = 12582912.0f;
  return static_cast<int32_t>((value + kRound) - kRound);
}

// The largest magnitude; infinity or NaN where there is any.
MESHFOLD_INLINE float peak_of(const float* values, int64_t count) {
  // Magnitudes of floats are ordered as their bits are, NaN last.
  int32_t bits = 0;
  for (int64_t j = 0; j < count; ++j) {
    int32_t own;
    __builtin_memcpy(&own, values + j, sizeof own);
    own &= 0x7fffffff;
    bits = own > bits ? own : bits;
  }
  float peak;
  __builtin_memcpy(&peak, &bits, sizeof peak);
  return peak;
}

}  // namespace meshfold
