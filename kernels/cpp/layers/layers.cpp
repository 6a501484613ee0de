// Linear layers one after another, a few rows at a time through all of them; formula in kernels/layers/layers.py.
//
// Weights are packed in panels of 32 outputs, the last one of 16 if that is enough: [inner][32]. A group of 12 rows is
// multiplied by a panel with all sums in 24 registers. A sum starts at the bias and adds one product after another in
// the order of the inputs, so that a row gives the same bytes in any batch. Both levels of x86 fuse multiply and add,
// and agree.
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "native/aligned.h"
#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

// Outputs of a panel, rows of a group.
constexpr int64_t kPanel = 32, kGroup = 12;
// Groups that pass all layers together: their values stay in a core's caches, beside the weights.
constexpr int64_t kGroups = 2;

// Multiplications below which starting other threads takes longer than the work.
constexpr int64_t kParallel = 1 << 20;

// A vector of four values.
using Four = float __attribute__((vector_size(16)));

// x: kGroup rows of `inner` values, `stride` apart. weights: [inner][width], width 16 or kPanel. bias: [width].
// out: `width` values of each row, rows `out_stride` apart.
using Product = void (*)(const float* x, int64_t stride, int64_t inner, const float* weights, const float* bias,
                         int64_t width, bool relu, float* out, int64_t out_stride);

void plain(const float* x, int64_t stride, int64_t inner, const float* weights, const float* bias, int64_t width,
           bool relu, float* out, int64_t out_stride) {
  // 8 of 16 registers hold sums, so that weights and an input fit beside them.
  constexpr int kRows = 2, kFours = 4;
  for (int64_t first = 0; first < width; first += 4 * kFours) {
    for (int64_t row = 0; row < kGroup; row += kRows) {
      Four sums[kRows][kFours];
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) std::memcpy(sums[r], bias + first, sizeof(sums[r]));
      const float* from = x + row * stride;
      for (int64_t j = 0; j < inner; ++j) {
#pragma GCC unroll 4
        for (int c = 0; c < kFours; ++c) {
          Four weight;
          std::memcpy(&weight, weights + j * width + first + 4 * c, sizeof(weight));
#pragma GCC unroll 2
          for (int r = 0; r < kRows; ++r) sums[r][c] += from[r * stride + j] * weight;
        }
      }
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < kFours; ++c) {
          if (relu) sums[r][c] = sums[r][c] < 0 ? Four{} : sums[r][c];
        }
        std::memcpy(out + (row + r) * out_stride + first, sums[r], sizeof(sums[r]));
      }
    }
  }
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void avx2(const float* x, int64_t stride, int64_t inner, const float* weights, const float* bias,
                        int64_t width, bool relu, float* out, int64_t out_stride) {
  // 12 of 16 registers hold sums, two hold weights, one an input.
  constexpr int kRows = 6;
  for (int64_t first = 0; first < width; first += 16) {
    for (int64_t row = 0; row < kGroup; row += kRows) {
      __m256 sums[kRows][2];
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] = _mm256_loadu_ps(bias + first);
        sums[r][1] = _mm256_loadu_ps(bias + first + 8);
      }
      const float* from = x + row * stride;
      for (int64_t j = 0; j < inner; ++j) {
        const __m256 left = _mm256_loadu_ps(weights + j * width + first);
        const __m256 right = _mm256_loadu_ps(weights + j * width + first + 8);
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m256 value = _mm256_broadcast_ss(from + r * stride + j);
          sums[r][0] = _mm256_fmadd_ps(value, left, sums[r][0]);
          sums[r][1] = _mm256_fmadd_ps(value, right, sums[r][1]);
        }
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        float* to = out + (row + r) * out_stride + first;
#pragma GCC unroll 2
        for (int c = 0; c < 2; ++c) {
          // max returns the second operand if one is NaN.
          _mm256_storeu_ps(to + 8 * c, relu ? _mm256_max_ps(_mm256_setzero_ps(), sums[r][c]) : sums[r][c]);
        }
      }
    }
  }
}

template <int kVectors>
MESHFOLD_AVX512 void avx512_panel(const float* x, int64_t stride, int64_t inner, const float* weights,
                                  const float* bias, bool relu, float* out, int64_t out_stride) {
  __m512 sums[kGroup][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) sums[r][c] = _mm512_loadu_ps(bias + 16 * c);
  }
  for (int64_t j = 0; j < inner; ++j, weights += 16 * kVectors) {
    __m512 weight[kVectors];
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) weight[c] = _mm512_loadu_ps(weights + 16 * c);
#pragma GCC unroll 12
    for (int r = 0; r < kGroup; ++r) {
      const __m512 value = _mm512_set1_ps(x[r * stride + j]);
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) sums[r][c] = _mm512_fmadd_ps(value, weight[c], sums[r][c]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) {
      const __m512 sum = relu ? _mm512_max_ps(_mm512_setzero_ps(), sums[r][c]) : sums[r][c];
      _mm512_storeu_ps(out + r * out_stride + 16 * c, sum);
    }
  }
}

MESHFOLD_AVX512 void avx512(const float* x, int64_t stride, int64_t inner, const float* weights, const float* bias,
                            int64_t width, bool relu, float* out, int64_t out_stride) {
  if (width == kPanel) {
    avx512_panel<2>(x, stride, inner, weights, bias, relu, out, out_stride);
  } else {
    avx512_panel<1>(x, stride, inner, weights, bias, relu, out, out_stride);
  }
}

#endif

Product chosen() {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return avx512;
  if (isa() == Isa::avx2) return avx2;
#endif
  return plain;
}

// A panel is packed by the first thread that needs it.
enum class Packed : int { no, begun, yes };

struct Layer {
  const float* weights;  // [outputs, inner]
  const float* bias;     // [outputs] or null
  int64_t inner, outputs, padded;
  bool relu;
  float *packed, *packed_bias;
  std::atomic<Packed>* states;  // of the panels

  int64_t panels() const { return (padded + kPanel - 1) / kPanel; }
  int64_t width(int64_t first) const { return std::min(kPanel, padded - first); }
};

// Packs the panel of the outputs from `first` on; outputs beyond the last are 0.
void pack(const Layer& layer, int64_t first) {
  const int64_t width = layer.width(first), held = std::min(width, layer.outputs - first);
  float* to = layer.packed + first * layer.inner;
  for (int64_t c = 0; c < width; ++c) {
    layer.packed_bias[first + c] = layer.bias != nullptr && c < held ? layer.bias[first + c] : 0;
  }
  // A few inputs at a time, so that each line of weights is read once and what is written to stays in a cache.
  constexpr int64_t kLine = 16;
  for (int64_t start = 0; start < layer.inner; start += kLine) {
    const int64_t end = std::min(layer.inner, start + kLine);
    for (int64_t c = 0; c < held; ++c) {
      const float* from = layer.weights + (first + c) * layer.inner;
      for (int64_t j = start; j < end; ++j) to[j * width + c] = from[j];
    }
    for (int64_t c = held; c < width; ++c) {
      for (int64_t j = start; j < end; ++j) to[j * width + c] = 0;
    }
  }
}

void ensure_packed(const Layer& layer, int64_t first) {
  std::atomic<Packed>& state = layer.states[first / kPanel];
  if (state.load(std::memory_order_acquire) == Packed::yes) return;
  Packed expected = Packed::no;
  if (state.compare_exchange_strong(expected, Packed::begun)) {
    pack(layer, first);
    state.store(Packed::yes, std::memory_order_release);
  }
  // Another thread packs it, which takes microseconds.
  while (state.load(std::memory_order_acquire) != Packed::yes) std::this_thread::yield();
}

// Tensors of M rows, side by side.
struct Inputs {
  const float* const* values;
  const int64_t* columns;
  const int64_t* row_strides;
  const int64_t* column_strides;
  int64_t count;

  void copy(int64_t row, float* to) const {
    for (int64_t i = 0; i < count; ++i) {
      const float* from = values[i] + row * row_strides[i];
      if (column_strides[i] == 1) {
        std::copy_n(from, columns[i], to);
      } else {
        for (int64_t c = 0; c < columns[i]; ++c) to[c] = from[c * column_strides[i]];
      }
      to += columns[i];
    }
  }
};

}  // namespace
}  // namespace meshfold

// inputs: [P] - pointers to [M, columns[p]] floats, whose rows and columns are row_strides[p] and column_strides[p]
// apart; side by side they are x. widths: [L + 1] - of x and of each layer's outputs. weights: [L] - [widths[l + 1],
// widths[l]]. biases: [L] - [widths[l + 1]] or null. relus: [L] -> out: [M, widths[L]].
MESHFOLD_API int32_t meshfold_layers(const float* const* inputs, const int64_t* columns, const int64_t* row_strides,
                                     const int64_t* column_strides, int64_t parts, int64_t rows,
                                     const float* const* weights, const float* const* biases, const int64_t* widths,
                                     const bool* relus, int64_t count, float* out, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const Inputs given{inputs, columns, row_strides, column_strides, parts};
    std::vector<Layer> layers(count);
    int64_t size = 0, panels = 0, widest = widths[0];
    for (int64_t l = 0; l < count; ++l) {
      const int64_t padded = (widths[l + 1] + 15) / 16 * 16;
      layers[l] = {weights[l], biases[l], widths[l], widths[l + 1], padded, relus[l], nullptr, nullptr, nullptr};
      size += padded * (widths[l] + 1);
      panels += layers[l].panels();
      widest = std::max(widest, padded);
    }
    const Room<float> packed = room<float>(size);
    std::vector<std::atomic<Packed>> states(panels);
    float* next = packed.get();
    std::atomic<Packed>* state = states.data();
    for (Layer& layer : layers) {
      layer.packed = next;
      layer.packed_bias = next + layer.padded * layer.inner;
      layer.states = state;
      next += layer.padded * (layer.inner + 1);
      state += layer.panels();
    }
    const Product product = chosen();
    const int team = std::max(1, threads);
    const int64_t block = kGroups * kGroup, space = block * widest;
    const Room<float> spaces = room<float>(2 * space * team);
#pragma omp parallel for schedule(dynamic) if (rows > block && rows * size > kParallel) num_threads(team)
    for (int64_t start = 0; start < rows; start += block) {
      const int64_t real = std::min(block, rows - start), filled = (real + kGroup - 1) / kGroup * kGroup;
      const int64_t thread = omp_get_thread_num();
      float* x = spaces.get() + 2 * space * thread;
      float* y = x + space;
      // Rows beyond the last are the last.
      for (int64_t r = 0; r < filled; ++r) given.copy(start + std::min(r, real - 1), x + r * widths[0]);
      int64_t stride = widths[0];
      for (const Layer& layer : layers) {
        for (int64_t i = 0, begun = layer.panels() * thread / team; i < layer.panels(); ++i) {
          // Threads begin at different panels, so that they do not wait for each other's packing.
          const int64_t first = (begun + i) % layer.panels() * kPanel;
          ensure_packed(layer, first);
          for (int64_t r = 0; r < filled; r += kGroup) {
            product(x + r * stride, stride, layer.inner, layer.packed + first * layer.inner, layer.packed_bias + first,
                    layer.width(first), layer.relu, y + r * layer.padded + first, layer.padded);
          }
        }
        stride = layer.padded;
        std::swap(x, y);
      }
      for (int64_t r = 0; r < real; ++r) std::copy_n(x + r * stride, widths[count], out + (start + r) * widths[count]);
    }
  });
}
