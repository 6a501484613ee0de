// Quantization of float vectors to 16-bit values; formula in kernels/vectors/quantize.py.
#pragma once

#include <cstdint>

namespace meshfold {

// Writes codes and residuals: [D], and returns the scale: vector[j] is about (256 * codes[j] + residuals[j]) * scale.
// A zero vector has codes, residuals and scale 0.
float quantize(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals);

}  // namespace meshfold
