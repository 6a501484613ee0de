// Weights as 8-bit codes with a scale an output and part; kernels/weights_int8.py has the formula.
#include <algorithm>
#include <cstring>

#include "codes.h"
#include "entry.h"
#include "isa.h"
#include "meshfold.h"

namespace meshfold {
namespace {

MESHFOLD_INLINE float coded(const float* weights, int64_t count, int8_t* codes) {
  const float peak = peak_of(weights, count), factor = factor_of(peak, kWeightPeak);
  if (factor == 0) {
    for (int64_t j = 0; j < count; ++j) codes[j] = 0;
  } else {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<int8_t>(nearest(weights[j] * factor));
  }
  return peak;
}

using Coded = float (*)(const float* weights, int64_t count, int8_t* codes);

float plain(const float* weights, int64_t count, int8_t* codes) { return coded(weights, count, codes); }

#if MESHFOLD_X86

MESHFOLD_AVX2 float avx2(const float* weights, int64_t count, int8_t* codes) { return coded(weights, count, codes); }

MESHFOLD_AVX512 float avx512(const float* weights, int64_t count, int8_t* codes) {
  return coded(weights, count, codes);
}

#endif

Coded chosen() {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return avx512;
  if (isa() == Isa::avx2) return avx2;
#endif
  return plain;
}

}  // namespace
}  // namespace meshfold

// weights: [M, N], columns: [P], whose sum is N -> packed: [M, N + 4 P]: a row's codes, then the bytes of its peaks.
MESHFOLD_API int32_t meshfold_weights_int8(const float* weights, int64_t outputs, int64_t inner, const int64_t* columns,
                                           int64_t parts, int8_t* packed) {
  using namespace meshfold;
  return guarded([&] {
    const Coded code = chosen();
    const int64_t held = inner + parts * static_cast<int64_t>(sizeof(float));
    for (int64_t m = 0; m < outputs; ++m) {
      const float* from = weights + m * inner;
      int8_t* to = packed + m * held;
      int64_t at = 0;
      for (int64_t p = 0; p < parts; ++p) {
        const float peak = code(from + at, columns[p], to + at);
        std::memcpy(to + inner + p * sizeof peak, &peak, sizeof peak);
        at += columns[p];
      }
    }
  });
}
