#include "layers/product_int8.h"

#include <cstring>

#include "native/isa.h"

namespace meshfold {
namespace {

// totals: [kGroup][width] of a group and a panel.
void multiply_plain(const int32_t* x, const PartProduct& term, int32_t* totals) {
  constexpr int64_t kColumns = 16;
  for (int64_t row = 0; row < kGroup; ++row) {
    for (int64_t column = 0; column < term.width; column += kColumns) {
      int32_t sums[kColumns];
      int32_t* to = totals + row * term.width + column;
      std::memcpy(sums, term.starts + column, sizeof sums);
      for (int64_t j = 0; j < term.words; ++j) {
        int16_t pair[2], weights[2 * kColumns];
        std::memcpy(pair, x + row * term.stride + j, sizeof pair);
        std::memcpy(weights, term.weights + j * term.width + column, sizeof weights);
        for (int64_t c = 0; c < kColumns; ++c) sums[c] += pair[0] * weights[2 * c] + pair[1] * weights[2 * c + 1];
      }
      std::memcpy(to, sums, sizeof sums);
    }
  }
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void multiply_avx2(const int32_t* x, const PartProduct& term, int32_t* totals) {
  // 12 of 16 registers hold sums, two hold weights, one an input.
  constexpr int kRows = 6;
  const int64_t width = term.width, stride = term.stride, words = term.words;
  for (int64_t column = 0; column < width; column += 16) {
    for (int64_t row = 0; row < kGroup; row += kRows) {
      const int32_t* from = x + row * stride;
      const int32_t* weights = term.weights + column;
      int32_t* to = totals + row * width + column;
      __m256i sums[kRows][2];
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(term.starts + column));
        sums[r][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(term.starts + column + 8));
      }
      for (int64_t j = 0; j < words; ++j, weights += width) {
        const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
        const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + 8));
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m256i pair = _mm256_set1_epi32(from[r * stride + j]);
          sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(pair, left));
          sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(pair, right));
        }
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * width), sums[r][0]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * width + 8), sums[r][1]);
      }
    }
  }
}

template <int kVectors>
MESHFOLD_AVX512 void multiply_panel(const int32_t* x, int64_t stride, int64_t words, const int32_t* weights,
                                    const int32_t* starts, int32_t* totals) {
  __m512i sums[kGroup][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) sums[r][c] = _mm512_loadu_si512(starts + 16 * c);
  }
  for (int64_t j = 0; j < words; ++j, weights += 16 * kVectors) {
    __m512i weight[kVectors];
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) weight[c] = _mm512_loadu_si512(weights + 16 * c);
#pragma GCC unroll 12
    for (int r = 0; r < kGroup; ++r) {
      const __m512i four = _mm512_set1_epi32(x[r * stride + j]);
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], four, weight[c]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) _mm512_storeu_si512(totals + 16 * (r * kVectors + c), sums[r][c]);
  }
}

MESHFOLD_AVX512 void multiply_avx512(const int32_t* x, const PartProduct& term, int32_t* totals) {
  if (term.width == kPanel) {
    multiply_panel<2>(x, term.stride, term.words, term.weights, term.starts, totals);
  } else {
    multiply_panel<1>(x, term.stride, term.words, term.weights, term.starts, totals);
  }
}

#endif

// Totals as floats, added to `out` unless the part is the first, then the bias and max(0, .) if it is the last.
template <int64_t kWidth, bool kFirst, bool kLast>
MESHFOLD_INLINE void weigh(const PartProduct& term, const int32_t* totals) {
  for (int64_t r = 0; r < kGroup; ++r, totals += kWidth) {
    const float scale = term.row_scales[r];
    float* out = term.out + r * term.out_stride;
    float sums[kWidth];
    for (int64_t c = 0; c < kWidth; ++c) {
      const float part = static_cast<float>(totals[c]) * (scale * term.output_scales[c]);
      sums[c] = kFirst ? part : out[c] + part;
      if (kLast) sums[c] = sums[c] + term.bias[c];
    }
    if (kLast && term.relu) {
      for (int64_t c = 0; c < kWidth; ++c) out[c] = sums[c] < 0 ? 0 : sums[c];
    } else {
      for (int64_t c = 0; c < kWidth; ++c) out[c] = sums[c];
    }
  }
}

template <int64_t kWidth, class Multiply>
MESHFOLD_INLINE void product_of(const PartProduct& term, Multiply multiply) {
  alignas(64) int32_t totals[kGroup * kWidth];
  if (!term.fine) {
    multiply(term.x, term, totals);
  } else {
    for (int32_t& total : totals) total = 0;
    for (int64_t r = 0; r < kGroup; ++r) {
      for (int64_t j = 0; j < term.words; ++j) {
        const int32_t value = term.x[r * term.stride + j];
        for (int64_t c = 0; c < kWidth; ++c) totals[r * kWidth + c] += value * term.weights[j * kWidth + c];
      }
    }
  }
  if (term.bias == nullptr) {
    term.first ? weigh<kWidth, true, false>(term, totals) : weigh<kWidth, false, false>(term, totals);
  } else {
    term.first ? weigh<kWidth, true, true>(term, totals) : weigh<kWidth, false, true>(term, totals);
  }
}

template <class Multiply>
MESHFOLD_INLINE void product_by(const PartProduct& given, Multiply multiply) {
  // A local copy, which the compiler knows that no store changes.
  const PartProduct term = given;
  if (term.width == kPanel) {
    product_of<kPanel>(term, multiply);
  } else {
    product_of<kPanel / 2>(term, multiply);
  }
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void product_avx2(const PartProduct& term) { product_by(term, multiply_avx2); }

MESHFOLD_AVX512 void product_avx512(const PartProduct& term) { product_by(term, multiply_avx512); }

#endif

}  // namespace

void product(const PartProduct& term) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return product_avx512(term);
  if (isa() == Isa::avx2) return product_avx2(term);
#endif
  product_by(term, multiply_plain);
}

}  // namespace meshfold
