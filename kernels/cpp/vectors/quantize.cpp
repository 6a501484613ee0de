#include "vectors/quantize.h"

#include <algorithm>

#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"
#include "native/numbers.h"

namespace meshfold {
namespace {

constexpr double kFineMax = 32512.0;

MESHFOLD_INLINE float quantized(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals) {
  const double largest = peak_of(vector, dimension);
  // A zero vector has zero codes, whatever the divisor.
  const double divisor = largest > 0 ? largest : 1.0;
  for (int64_t j = 0; j < dimension; ++j) {
    const double scaled = static_cast<double>(vector[j]) / divisor * kFineMax;
    const int32_t fine = static_cast<int32_t>(round_even(scaled));
    const int32_t code = (fine + 128) >> 8;
    codes[j] = static_cast<int8_t>(code);
    residuals[j] = static_cast<int8_t>(fine - 256 * code);
  }
  return static_cast<float>(largest / kFineMax);
}

MESHFOLD_FOR_EACH_LEVEL(float, quantize_level, quantized,
                        (const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals),
                        (vector, dimension, codes, residuals))

// Values below which starting other threads takes longer than the work.
constexpr int64_t kParallel = 1 << 15;

}  // namespace

float quantize(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals) {
  return quantize_level(vector, dimension, codes, residuals);
}

}  // namespace meshfold

// vectors: [n, D] -> codes, residuals: [n, D], scales: [n].
MESHFOLD_API int32_t meshfold_quantize(const float* vectors, int64_t count, int64_t dimension, int8_t* codes,
                                       int8_t* residuals, float* scales, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
#pragma omp parallel for if (count * dimension > kParallel) num_threads(std::max(1, threads))
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = i * dimension;
      scales[i] = quantize(vectors + at, dimension, codes + at, residuals + at);
    }
  });
}
