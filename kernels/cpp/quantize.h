// Float vectors as 16-bit fine values in two bytes; kernels/quantize.py has the formula.
#pragma once

#include <cstdint>

namespace meshfold {

// vector -> codes, residuals: [D]; returns the unit.
using Quantize = float (*)(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals);

// For the level in use.
Quantize quantize_for();

}  // namespace meshfold
