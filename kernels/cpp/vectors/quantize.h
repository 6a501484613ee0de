// Float vectors as 16-bit fine values in two bytes; formula in kernels/vectors/quantize.py.
#pragma once

#include <cstdint>

namespace meshfold {

// vector -> codes, residuals: [D]; returns the scale.
float quantize(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals);

}  // namespace meshfold
