#include "quantize.h"

#include <algorithm>

#include "entry.h"
#include "isa.h"
#include "leaf.h"
#include "meshfold.h"

namespace meshfold {
namespace {

constexpr double kFineMax = 32512.0;

MESHFOLD_INLINE float quantized(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals) {
  // Magnitudes of floats are ordered as their bits are.
  int32_t bits = 0;
  for (int64_t j = 0; j < dimension; ++j) {
    int32_t own;
    __builtin_memcpy(&own, vector + j, sizeof own);
    own &= 0x7fffffff;
    bits = own > bits ? own : bits;
  }
  float most;
  __builtin_memcpy(&most, &bits, sizeof most);
  const double largest = most;
  // A zero vector has zero codes whatever it is divided by.
  const double divisor = largest > 0 ? largest : 1.0;
  for (int64_t j = 0; j < dimension; ++j) {
    const double scaled = static_cast<double>(vector[j]) / divisor * kFineMax;
    const int32_t fine = static_cast<int32_t>((scaled + kRound) - kRound);
    const int32_t code = (fine + 128) >> 8;
    codes[j] = static_cast<int8_t>(code);
    residuals[j] = static_cast<int8_t>(fine - 256 * code);
  }
  return static_cast<float>(largest / kFineMax);
}

float plain(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals) {
  return quantized(vector, dimension, codes, residuals);
}

#if MESHFOLD_X86

MESHFOLD_AVX2 float avx2(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals) {
  return quantized(vector, dimension, codes, residuals);
}

MESHFOLD_AVX512 float avx512(const float* vector, int64_t dimension, int8_t* codes, int8_t* residuals) {
  return quantized(vector, dimension, codes, residuals);
}

#endif

// Below this many values, other threads take longer to start than the work.
constexpr int64_t kParallel = 1 << 15;

}  // namespace

Quantize quantize_for() {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return avx512;
  if (isa() == Isa::avx2) return avx2;
#endif
  return plain;
}

}  // namespace meshfold

// vectors: [n, D] -> codes, residuals: [n, D], units: [n].
MESHFOLD_API int32_t meshfold_quantize(const float* vectors, int64_t count, int64_t dimension, int8_t* codes,
                                       int8_t* residuals, float* units, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const Quantize quantize = quantize_for();
#pragma omp parallel for if (count * dimension > kParallel) num_threads(std::max(1, threads))
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = i * dimension;
      units[i] = quantize(vectors + at, dimension, codes + at, residuals + at);
    }
  });
}
