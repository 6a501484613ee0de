// Floats as 8-bit codes with one scale: what layers_int8 multiplies; kernels/layers_int8.py has the formulas.
//
// Inlined into a function for each level: no std template may stand in here.
#pragma once

#include <cstdint>

#include "leaf.h"

namespace meshfold {

// Values of the largest magnitude become these.
constexpr float kFinePeak = 32512, kPositivePeak = 255, kWeightPeak = 127;
// 2^-100: below, a row is a row of zeros, so that no reciprocal overflows.
constexpr float kSmallestPeak = 0x1p-100f;
constexpr float kLargestPeak = 0x1.fffffep127f;
// Added to a float below 2^22 and taken away again, it rounds to the nearest integer, ties to even: 1.5 * 2^23.
constexpr float kRoundFloat = 12582912.0f;

MESHFOLD_INLINE int32_t nearest(float value) {
  return static_cast<int32_t>((value + kRoundFloat) - kRoundFloat);
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

// What a value is multiplied by before it is rounded; 0 where the row counts as zeros or holds what is no number.
MESHFOLD_INLINE float factor_of(float peak, float steps) {
  return peak >= kSmallestPeak && peak <= kLargestPeak ? steps / peak : 0;
}

// What an integer of 1 stands for: 0 of a row of zeros, NaN where the row holds what is no number.
MESHFOLD_INLINE float unit_of(float peak, float steps) {
  if (!(peak <= kLargestPeak)) return __builtin_nanf("");
  return peak >= kSmallestPeak ? peak / steps : 0;
}

}  // namespace meshfold
