#include "search/select.h"

#include <bit>

#include "native/isa.h"

namespace meshfold {
namespace {

// Whether a position's bit is set.
bool allows(const uint64_t* allowed, int64_t position) { return allowed[position >> 6] >> (position & 63) & 1; }

int64_t run_plain(const float* scores, int64_t n, float threshold, int64_t first, const uint64_t* allowed,
                  float* to_scores, int32_t* to_positions) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    to_scores[found] = scores[i];
    to_positions[found] = static_cast<int32_t>(first + i);
    found += scores[i] >= threshold && (!allowed || allows(allowed, first + i));
  }
  return found;
}

int64_t listed_plain(const float* scores, int64_t n, float threshold, const int32_t* at, float* to_scores,
                     int32_t* to_positions) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float score = scores[i];
    to_scores[found] = score;
    to_positions[found] = at[i];
    found += score >= threshold;
  }
  return found;
}

MESHFOLD_INLINE ScoreSpan span(const float* scores, int64_t n) {
  ScoreSpan all{ordered(scores[0]), ordered(scores[0])};
  for (int64_t i = 0; i < n; ++i) {
    const int32_t own = ordered(scores[i]);
    all.least = own < all.least ? own : all.least;
    all.most = own > all.most ? own : all.most;
  }
  return all;
}

MESHFOLD_FOR_EACH_LEVEL(ScoreSpan, span_level, span, (const float* scores, int64_t n), (scores, n))

// Scores of at least `least`, counted in runs that lanes of 32 bits can count.
MESHFOLD_INLINE int64_t reaching(const float* scores, int64_t n, float least) {
  constexpr int64_t kCounted = 1 << 24;
  int64_t all = 0;
  for (int64_t first = 0; first < n; first += kCounted) {
    const int64_t last = n - first < kCounted ? n : first + kCounted;
    int32_t found = 0;
    for (int64_t i = first; i < last; ++i) found += scores[i] >= least;
    all += found;
  }
  return all;
}

MESHFOLD_FOR_EACH_LEVEL(int64_t, reaching_level, reaching, (const float* scores, int64_t n, float least),
                        (scores, n, least))

int64_t positions_plain(uint64_t word, int32_t base, int32_t* at) {
  int64_t found = 0;
  for (; word; word &= word - 1) at[found++] = base + std::countr_zero(word);
  return found;
}

#if MESHFOLD_X86

MESHFOLD_AVX2 int64_t run_avx2(const float* scores, int64_t n, float threshold, int64_t first, const uint64_t* allowed,
                               float* to_scores, int32_t* to_positions) {
  const __m256 wanted = _mm256_set1_ps(threshold);
  int64_t found = 0, i = 0;
  for (; i + 8 <= n; i += 8) {
    unsigned mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(scores + i), wanted, _CMP_GE_OQ));
    for (; mask; mask &= mask - 1) {
      const int64_t j = i + __builtin_ctz(mask);
      to_scores[found] = scores[j];
      to_positions[found] = static_cast<int32_t>(first + j);
      found += !allowed || allows(allowed, first + j);
    }
  }
  return found + run_plain(scores + i, n - i, threshold, first + i, allowed, to_scores + found, to_positions + found);
}

MESHFOLD_AVX512 inline __mmask16 there(int64_t left) {
  return static_cast<__mmask16>(_bzhi_u32(0xFFFF, left < 16 ? static_cast<unsigned>(left) : 16));
}

// Without a branch, which no processor could predict. Whole registers are stored: masked stores are slow where
// compression is.
MESHFOLD_AVX512 inline int64_t put(__mmask16 mask, __m512 scores, __m512i positions, float* to_scores,
                                   int32_t* to_positions) {
  _mm512_storeu_ps(to_scores, _mm512_maskz_compress_ps(mask, scores));
  _mm512_storeu_si512(to_positions, _mm512_maskz_compress_epi32(mask, positions));
  return _mm_popcnt_u32(mask);
}

MESHFOLD_AVX512 int64_t run_avx512(const float* scores, int64_t n, float threshold, int64_t first,
                                   const uint64_t* allowed, float* to_scores, int32_t* to_positions) {
  const __m512 wanted = _mm512_set1_ps(threshold);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 16) {
    __mmask16 mask = there(n - i);
    if (allowed) {
      const int64_t word = (first + i) >> 6, shift = (first + i) & 63;
      mask &= static_cast<__mmask16>(allowed[word] >> shift | allowed[word + 1] << 1 << (63 - shift));
    }
    const __m512 own = _mm512_maskz_loadu_ps(mask, scores + i);
    mask = _mm512_mask_cmp_ps_mask(mask, own, wanted, _CMP_GE_OQ);
    const __m512i positions = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(first + i)));
    found += put(mask, own, positions, to_scores + found, to_positions + found);
  }
  return found;
}

MESHFOLD_AVX512 int64_t listed_avx512(const float* scores, int64_t n, float threshold, const int32_t* at,
                                      float* to_scores, int32_t* to_positions) {
  const __m512 wanted = _mm512_set1_ps(threshold);
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = there(n - i);
    const __m512 own = _mm512_maskz_loadu_ps(mask, scores + i);
    const __m512i positions = _mm512_maskz_loadu_epi32(mask, at + i);
    const __mmask16 high = _mm512_mask_cmp_ps_mask(mask, own, wanted, _CMP_GE_OQ);
    found += put(high, own, positions, to_scores + found, to_positions + found);
  }
  return found;
}

// Few bits take a fixed number of steps without unpredictable branches; the next word overwrites the excess.
constexpr int kFew = 8;

// Returns the remaining bits.
MESHFOLD_AVX2 inline uint64_t put_few(uint64_t word, int32_t base, int32_t* at) {
  for (int i = 0; i < kFew; ++i, word &= word - 1) at[i] = base + static_cast<int32_t>(_tzcnt_u64(word));
  return word;
}

MESHFOLD_AVX2 int64_t positions_avx2(uint64_t word, int32_t base, int32_t* at) {
  const int64_t found = _mm_popcnt_u64(word);
  for (int64_t first = 0; first < found; first += kFew) word = put_few(word, base, at + first);
  return found;
}

MESHFOLD_AVX512 int64_t positions_avx512(uint64_t word, int32_t base, int32_t* at) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t found = _mm_popcnt_u64(word);
  if (found <= kFew) {
    put_few(word, base, at);
    return found;
  }
  found = 0;
  for (int quarter = 0; quarter < 4; ++quarter, word >>= 16) {
    const __mmask16 mask = static_cast<__mmask16>(word);
    const __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32(base + quarter * 16));
    // Whole registers are stored: masked stores are slow where compression is.
    _mm512_storeu_si512(at + found, _mm512_maskz_compress_epi32(mask, places));
    found += _mm_popcnt_u32(mask);
  }
  return found;
}

#endif

}  // namespace

int64_t take_run(const float* scores, int64_t n, float threshold, int64_t first, const uint64_t* allowed,
                 float* to_scores, int32_t* to_positions) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return run_avx512(scores, n, threshold, first, allowed, to_scores, to_positions);
  if (isa() == Isa::avx2) return run_avx2(scores, n, threshold, first, allowed, to_scores, to_positions);
#endif
  return run_plain(scores, n, threshold, first, allowed, to_scores, to_positions);
}

int64_t take_listed(const float* scores, int64_t n, float threshold, const int32_t* at, float* to_scores,
                    int32_t* to_positions) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return listed_avx512(scores, n, threshold, at, to_scores, to_positions);
#endif
  return listed_plain(scores, n, threshold, at, to_scores, to_positions);
}

ScoreSpan span_of(const float* scores, int64_t n) { return span_level(scores, n); }

int64_t count_at_least(const float* scores, int64_t n, float least) { return reaching_level(scores, n, least); }

int64_t positions_of(uint64_t word, int32_t base, int32_t* at) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return positions_avx512(word, base, at);
  if (isa() == Isa::avx2) return positions_avx2(word, base, at);
#endif
  return positions_plain(word, base, at);
}

}  // namespace meshfold
