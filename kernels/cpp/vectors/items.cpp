// Items' vectors from codes and residuals, gathered and scaled in one pass; formula in kernels/vectors/items.py.
#include <algorithm>

#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"
#include "native/prefetch.h"

namespace meshfold {
namespace {

// A fine value has 16 bits and a scale 24, so that float32's one rounding of the product is also float64's.
MESHFOLD_INLINE void restored(const int8_t* codes, const int8_t* residuals, float scale, int64_t dimension, float* to) {
  for (int64_t j = 0; j < dimension; ++j) {
    to[j] = static_cast<float>(256 * static_cast<int32_t>(codes[j]) + residuals[j]) * scale;
  }
}

MESHFOLD_FOR_EACH_LEVEL(void, restore, restored,
                        (const int8_t* codes, const int8_t* residuals, float scale, int64_t dimension, float* to),
                        (codes, residuals, scale, dimension, to))

// Values below which starting other threads takes longer than the work.
constexpr int64_t kParallel = 1 << 16;
// Items between a prefetch and its use.
constexpr int64_t kAhead = 16;

}  // namespace
}  // namespace meshfold

// codes, residuals: [N, D], `stride` bytes from an item to the next, scales: [N], positions: [M], below 0 for item 0 ->
// vectors: [M, D].
MESHFOLD_API int32_t meshfold_item_vectors(const int8_t* codes, const int8_t* residuals, const float* scales,
                                           int64_t items, int64_t dimension, int64_t stride, const int64_t* positions,
                                           int64_t count, float* vectors, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t m = 0; m < count; ++m) {
      if (std::max<int64_t>(positions[m], 0) >= items) {
        throw Invalid("positions must be below " + std::to_string(items) + ", got " + std::to_string(positions[m]));
      }
    }
#pragma omp parallel for if (count * dimension > kParallel) num_threads(std::max(1, threads))
    for (int64_t m = 0; m < count; ++m) {
      if (m + kAhead < count) {
        const int64_t next = std::max<int64_t>(positions[m + kAhead], 0);
        for (int64_t j = 0; j < dimension; j += 64) {
          prefetch_line(codes + next * stride + j);
          prefetch_line(residuals + next * stride + j);
        }
        prefetch_line(scales + next);
      }
      const int64_t at = std::max<int64_t>(positions[m], 0);
      restore(codes + at * stride, residuals + at * stride, scales[at], dimension, vectors + m * dimension);
    }
  });
}
