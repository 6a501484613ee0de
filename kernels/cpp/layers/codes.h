// Floats as 8-bit codes with one scale, the operands of layers_int8; formulas in kernels/layers/layers_int8.py.
//
// Inlined into a function for each level: no std template may be used here.
#pragma once

#include <cstdint>

#include "native/numbers.h"

namespace meshfold {

// The integer of the largest magnitude.
constexpr float kFinePeak = 32512, kPositivePeak = 255, kWeightPeak = 127;
// 2^-100: below, a row is a row of zeros, so that no reciprocal overflows.
constexpr float kSmallestPeak = 0x1p-100f;
constexpr float kLargestPeak = 0x1.fffffep127f;

// The factor of a value before it is rounded; 0 for a row that counts as zeros, or holds infinity or NaN.
MESHFOLD_INLINE float factor_of(float peak, float steps) {
  return peak >= kSmallestPeak && peak <= kLargestPeak ? steps / peak : 0;
}

// The value of an integer of 1: 0 for a row of zeros, NaN for a row that holds infinity or NaN.
MESHFOLD_INLINE float scale_of(float peak, float steps) {
  if (!(peak <= kLargestPeak)) return __builtin_nanf("");
  return peak >= kSmallestPeak ? peak / steps : 0;
}

}  // namespace meshfold
