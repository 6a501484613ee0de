#include "select.h"

#include <bit>

#include "isa.h"
#include "leaf.h"

namespace meshfold {
namespace {

int64_t at_least_plain(const float* scores, int64_t n, float threshold, int32_t* indices) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    indices[found] = static_cast<int32_t>(i);
    found += scores[i] >= threshold;
  }
  return found;
}

MESHFOLD_INLINE Span64 span(const uint64_t* entries, int64_t n) {
  uint64_t least = ~uint64_t{0}, most = 0;
  for (int64_t i = 0; i < n; ++i) {
    least = entries[i] < least ? entries[i] : least;
    most = entries[i] > most ? entries[i] : most;
  }
  return {least, most};
}

int64_t keep_plain(uint64_t* entries, int64_t n, uint64_t least) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t entry = entries[i];
    entries[kept] = entry;
    kept += entry >= least;
  }
  return kept;
}

int64_t positions_plain(uint64_t word, int32_t base, int32_t* at) {
  int64_t found = 0;
  for (; word; word &= word - 1) at[found++] = base + std::countr_zero(word);
  return found;
}

#if MESHFOLD_X86

MESHFOLD_AVX2 int64_t at_least_avx2(const float* scores, int64_t n, float threshold, int32_t* indices) {
  const __m256 wanted = _mm256_set1_ps(threshold);
  int64_t found = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    unsigned mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores + i), wanted, _CMP_GE_OQ));
    for (; mask; mask &= mask - 1) indices[found++] = static_cast<int32_t>(i) + __builtin_ctz(mask);
  }
  for (; i < n; ++i) {
    indices[found] = static_cast<int32_t>(i);
    found += scores[i] >= threshold;
  }
  return found;
}

MESHFOLD_AVX512 int64_t at_least_avx512(const float* scores, int64_t n, float threshold, int32_t* indices) {
  const __m512 wanted = _mm512_set1_ps(threshold);
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 there = n - i >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << (n - i)) - 1);
    unsigned mask =
        _mm512_mask_cmp_ps_mask(there, _mm512_maskz_loadu_ps(there, scores + i), wanted, _CMP_GE_OQ);
    for (; mask; mask &= mask - 1) indices[found++] = static_cast<int32_t>(i) + __builtin_ctz(mask);
  }
  return found;
}

MESHFOLD_AVX512 Span64 span_avx512(const uint64_t* entries, int64_t n) { return span(entries, n); }

MESHFOLD_AVX512 int64_t keep_avx512(uint64_t* entries, int64_t n, uint64_t least) {
  const __m512i wanted = _mm512_set1_epi64(static_cast<int64_t>(least));
  int64_t kept = 0, i = 0;
  // What is stored beyond the kept was read before.
  for (; i + 8 <= n; i += 8) {
    const __m512i own = _mm512_loadu_si512(entries + i);
    const __mmask8 mask = _mm512_cmpge_epu64_mask(own, wanted);
    _mm512_storeu_si512(entries + kept, _mm512_maskz_compress_epi64(mask, own));
    kept += _mm_popcnt_u32(mask);
  }
  for (; i < n; ++i) {
    const uint64_t entry = entries[i];
    entries[kept] = entry;
    kept += entry >= least;
  }
  return kept;
}

// Without a branch a bit, which no processor can foresee: of few, always as many steps, of which the last may write what
// the next word overwrites.
MESHFOLD_AVX512 int64_t positions_avx512(uint64_t word, int32_t base, int32_t* at) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  constexpr int kFew = 8;
  int64_t found = _mm_popcnt_u64(word);
  if (found <= kFew) {
    for (int i = 0; i < kFew; ++i, word &= word - 1) at[i] = base + static_cast<int32_t>(_tzcnt_u64(word));
    return found;
  }
  found = 0;
  for (int quarter = 0; quarter < 4; ++quarter, word >>= 16) {
    const __mmask16 mask = static_cast<__mmask16>(word);
    const __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32(base + quarter * 16));
    // Stored whole: to store masked is slow where compression is.
    _mm512_storeu_si512(at + found, _mm512_maskz_compress_epi32(mask, places));
    found += _mm_popcnt_u32(mask);
  }
  return found;
}

#endif

}  // namespace

int64_t at_least(const float* scores, int64_t n, float threshold, int32_t* indices) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return at_least_avx512(scores, n, threshold, indices);
  if (isa() == Isa::avx2) return at_least_avx2(scores, n, threshold, indices);
#endif
  return at_least_plain(scores, n, threshold, indices);
}

Span64 span_of(const uint64_t* entries, int64_t n) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return span_avx512(entries, n);
#endif
  return span(entries, n);
}

int64_t keep_at_least(uint64_t* entries, int64_t n, uint64_t least) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return keep_avx512(entries, n, least);
#endif
  return keep_plain(entries, n, least);
}

int64_t positions_of(uint64_t word, int32_t base, int32_t* at) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return positions_avx512(word, base, at);
#endif
  return positions_plain(word, base, at);
}

}  // namespace meshfold
