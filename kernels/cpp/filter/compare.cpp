#include "filter/compare.h"

#include "native/isa.h"

namespace meshfold {
namespace {

uint64_t between32_plain(const int32_t* column, int32_t low, int32_t high) {
  uint64_t bits = 0;
  for (int j = 0; j < 64; ++j) bits |= static_cast<uint64_t>(column[j] >= low && column[j] <= high) << j;
  return bits;
}

uint64_t between64_plain(const int64_t* column, int64_t low, int64_t high) {
  uint64_t bits = 0;
  for (int j = 0; j < 64; ++j) bits |= static_cast<uint64_t>(column[j] >= low && column[j] <= high) << j;
  return bits;
}

template <class Integer>
void any_of_plain(const Integer* column, const int64_t* first, const int64_t* last, int64_t runs,
                  const int64_t* wanted, int32_t count, bool* found) {
  for (int64_t r = 0; r < runs; ++r) {
    bool any = false;
    for (int64_t at = first[r]; at < last[r]; ++at) {
      for (int32_t v = 0; v < count; ++v) any |= column[at] == wanted[v];
    }
    found[r] = any;
  }
}

MESHFOLD_INLINE int64_t set_bits(const uint64_t* words, int64_t count) {
  int64_t total = 0;
  for (int64_t w = 0; w < count; ++w) total += __builtin_popcountll(words[w]);
  return total;
}

MESHFOLD_FOR_EACH_LEVEL(int64_t, popcount_level, set_bits, (const uint64_t* words, int64_t count), (words, count))

#if MESHFOLD_X86

MESHFOLD_AVX2 uint64_t between32_avx2(const int32_t* column, int32_t low, int32_t high) {
  const __m256i lows = _mm256_set1_epi32(low), highs = _mm256_set1_epi32(high);
  uint64_t outside = 0;
  for (int j = 0; j < 64; j += 8) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + j));
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(lows, x), _mm256_cmpgt_epi32(x, highs));
    const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(out)));
    outside |= static_cast<uint64_t>(mask) << j;
  }
  return ~outside;
}

MESHFOLD_AVX2 uint64_t between64_avx2(const int64_t* column, int64_t low, int64_t high) {
  const __m256i lows = _mm256_set1_epi64x(low), highs = _mm256_set1_epi64x(high);
  uint64_t outside = 0;
  for (int j = 0; j < 64; j += 4) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + j));
    const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi64(lows, x), _mm256_cmpgt_epi64(x, highs));
    const auto mask = static_cast<uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(out)));
    outside |= static_cast<uint64_t>(mask) << j;
  }
  return ~outside;
}

MESHFOLD_AVX2 void any_of32_avx2(const int32_t* column, const int64_t* first, const int64_t* last, int64_t runs,
                                 const int64_t* wanted, int32_t count, bool* found) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t r = 0; r < runs; ++r) {
    __m256i any = _mm256_setzero_si256();
    for (int64_t at = first[r]; at < last[r]; at += 8) {
      const int64_t left = last[r] - at;
      const __m256i held = _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? static_cast<int32_t>(left) : 8), lanes);
      const __m256i x = _mm256_maskload_epi32(column + at, held);
      for (int32_t v = 0; v < count; ++v) {
        const __m256i equal = _mm256_cmpeq_epi32(x, _mm256_set1_epi32(static_cast<int32_t>(wanted[v])));
        any = _mm256_or_si256(any, _mm256_and_si256(equal, held));
      }
    }
    found[r] = !_mm256_testz_si256(any, any);
  }
}

MESHFOLD_AVX2 void any_of64_avx2(const int64_t* column, const int64_t* first, const int64_t* last, int64_t runs,
                                 const int64_t* wanted, int32_t count, bool* found) {
  const __m256i lanes = _mm256_setr_epi64x(0, 1, 2, 3);
  for (int64_t r = 0; r < runs; ++r) {
    __m256i any = _mm256_setzero_si256();
    for (int64_t at = first[r]; at < last[r]; at += 4) {
      const __m256i held = _mm256_cmpgt_epi64(_mm256_set1_epi64x(last[r] - at), lanes);
      const __m256i x = _mm256_maskload_epi64(reinterpret_cast<const long long*>(column + at), held);
      for (int32_t v = 0; v < count; ++v) {
        const __m256i equal = _mm256_cmpeq_epi64(x, _mm256_set1_epi64x(wanted[v]));
        any = _mm256_or_si256(any, _mm256_and_si256(equal, held));
      }
    }
    found[r] = !_mm256_testz_si256(any, any);
  }
}

MESHFOLD_AVX512 uint64_t between32_avx512(const int32_t* column, int32_t low, int32_t high) {
  const __m512i lows = _mm512_set1_epi32(low), highs = _mm512_set1_epi32(high);
  uint64_t bits = 0;
  for (int j = 0; j < 64; j += 16) {
    const __m512i x = _mm512_loadu_si512(column + j);
    const __mmask16 mask = _mm512_mask_cmple_epi32_mask(_mm512_cmpge_epi32_mask(x, lows), x, highs);
    bits |= static_cast<uint64_t>(mask) << j;
  }
  return bits;
}

MESHFOLD_AVX512 uint64_t between64_avx512(const int64_t* column, int64_t low, int64_t high) {
  const __m512i lows = _mm512_set1_epi64(low), highs = _mm512_set1_epi64(high);
  uint64_t bits = 0;
  for (int j = 0; j < 64; j += 8) {
    const __m512i x = _mm512_loadu_si512(column + j);
    const __mmask8 mask = _mm512_mask_cmple_epi64_mask(_mm512_cmpge_epi64_mask(x, lows), x, highs);
    bits |= static_cast<uint64_t>(mask) << j;
  }
  return bits;
}

MESHFOLD_AVX512 void any_of32_avx512(const int32_t* column, const int64_t* first, const int64_t* last, int64_t runs,
                                     const int64_t* wanted, int32_t count, bool* found) {
  for (int64_t r = 0; r < runs; ++r) {
    __mmask16 any = 0;
    for (int64_t at = first[r]; at < last[r]; at += 16) {
      const int64_t left = last[r] - at;
      const auto held = static_cast<__mmask16>(left < 16 ? (1u << left) - 1 : 0xFFFF);
      const __m512i x = _mm512_maskz_loadu_epi32(held, column + at);
      for (int32_t v = 0; v < count; ++v) {
        any |= _mm512_mask_cmpeq_epi32_mask(held, x, _mm512_set1_epi32(static_cast<int32_t>(wanted[v])));
      }
    }
    found[r] = any != 0;
  }
}

MESHFOLD_AVX512 void any_of64_avx512(const int64_t* column, const int64_t* first, const int64_t* last, int64_t runs,
                                     const int64_t* wanted, int32_t count, bool* found) {
  for (int64_t r = 0; r < runs; ++r) {
    __mmask8 any = 0;
    for (int64_t at = first[r]; at < last[r]; at += 8) {
      const int64_t left = last[r] - at;
      const auto held = static_cast<__mmask8>(left < 8 ? (1u << left) - 1 : 0xFF);
      const __m512i x = _mm512_maskz_loadu_epi64(held, column + at);
      for (int32_t v = 0; v < count; ++v) any |= _mm512_mask_cmpeq_epi64_mask(held, x, _mm512_set1_epi64(wanted[v]));
    }
    found[r] = any != 0;
  }
}

#endif

constexpr Comparisons kPlain{between32_plain, between64_plain, any_of_plain<int32_t>, any_of_plain<int64_t>};
#if MESHFOLD_X86
constexpr Comparisons kAvx2{between32_avx2, between64_avx2, any_of32_avx2, any_of64_avx2};
constexpr Comparisons kAvx512{between32_avx512, between64_avx512, any_of32_avx512, any_of64_avx512};
#endif

}  // namespace

const Comparisons& comparisons() noexcept {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return kAvx512;
  if (isa() == Isa::avx2) return kAvx2;
#endif
  return kPlain;
}

int64_t popcount(const uint64_t* words, int64_t count) noexcept { return popcount_level(words, count); }

}  // namespace meshfold
