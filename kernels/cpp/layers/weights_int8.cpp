// Weights as 8-bit codes with a scale an output and part; formula in kernels/layers/weights_int8.py.
#include <algorithm>
#include <cstring>

#include "layers/codes.h"
#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"

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

MESHFOLD_FOR_EACH_LEVEL(float, code, coded, (const float* weights, int64_t count, int8_t* codes),
                        (weights, count, codes))

}  // namespace
}  // namespace meshfold

// weights: [M, N], columns: [P], whose sum is N -> packed: [M, N + 4 P]: a row's codes, then the bytes of its peaks.
MESHFOLD_API int32_t meshfold_weights_int8(const float* weights, int64_t outputs, int64_t inner, const int64_t* columns,
                                           int64_t parts, int8_t* packed) {
  using namespace meshfold;
  return guarded([&] {
    const int64_t width = inner + parts * static_cast<int64_t>(sizeof(float));
    for (int64_t m = 0; m < outputs; ++m) {
      const float* from = weights + m * inner;
      int8_t* to = packed + m * width;
      int64_t at = 0;
      for (int64_t p = 0; p < parts; ++p) {
        const float peak = code(from + at, columns[p], to + at);
        std::memcpy(to + inner + p * sizeof peak, &peak, sizeof peak);
        at += columns[p];
      }
    }
  });
}
