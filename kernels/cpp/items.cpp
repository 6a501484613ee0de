// Items' vectors out of codes and residuals, gathered and scaled in one pass; kernels/items.py has the formula.
#include <algorithm>

#include "ahead.h"
#include "entry.h"
#include "isa.h"
#include "leaf.h"
#include "meshfold.h"

namespace meshfold {
namespace {

// A fine value has 16 bits and a unit 24, so that float32's one rounding of the product is also float64's.
MESHFOLD_INLINE void restored(const int8_t* codes, const int8_t* residuals, float unit, int64_t dimension, float* to) {
  for (int64_t j = 0; j < dimension; ++j) {
    to[j] = static_cast<float>(256 * static_cast<int32_t>(codes[j]) + residuals[j]) * unit;
  }
}

using Restore = void (*)(const int8_t*, const int8_t*, float, int64_t, float*);

void plain(const int8_t* codes, const int8_t* residuals, float unit, int64_t dimension, float* to) {
  restored(codes, residuals, unit, dimension, to);
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void avx2(const int8_t* codes, const int8_t* residuals, float unit, int64_t dimension, float* to) {
  restored(codes, residuals, unit, dimension, to);
}

MESHFOLD_AVX512 void avx512(const int8_t* codes, const int8_t* residuals, float unit, int64_t dimension, float* to) {
  restored(codes, residuals, unit, dimension, to);
}

#endif

Restore chosen() {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return avx512;
  if (isa() == Isa::avx2) return avx2;
#endif
  return plain;
}

// Below this many values, other threads take longer to start than the work.
constexpr int64_t kParallel = 1 << 16;
// Rows asked of memory before they are needed.
constexpr int64_t kAhead = 16;

}  // namespace
}  // namespace meshfold

// codes, residuals: [N, D], `stride` bytes from an item to the next, units: [N], positions: [M], below 0 for item 0 ->
// vectors: [M, D].
MESHFOLD_API int32_t meshfold_item_vectors(const int8_t* codes, const int8_t* residuals, const float* units,
                                           int64_t items, int64_t dimension, int64_t stride, const int64_t* positions,
                                           int64_t count, float* vectors, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t m = 0; m < count; ++m) {
      if (std::max<int64_t>(positions[m], 0) >= items) {
        throw Invalid("positions must be below " + std::to_string(items) + ", got " + std::to_string(positions[m]));
      }
    }
    const Restore restore = chosen();
#pragma omp parallel for if (count * dimension > kParallel) num_threads(std::max(1, threads))
    for (int64_t m = 0; m < count; ++m) {
      if (m + kAhead < count) {
        const int64_t next = std::max<int64_t>(positions[m + kAhead], 0);
        for (int64_t j = 0; j < dimension; j += 64) {
          ask_for(codes + next * stride + j);
          ask_for(residuals + next * stride + j);
        }
        ask_for(units + next);
      }
      const int64_t at = std::max<int64_t>(positions[m], 0);
      restore(codes + at * stride, residuals + at * stride, units[at], dimension, vectors + m * dimension);
    }
  });
}
