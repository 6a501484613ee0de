#include "filter/rows.h"

#include <algorithm>

#include "native/isa.h"
#include "native/prefetch.h"

namespace meshfold {
namespace {

// Prefetch distance in positions.
constexpr int64_t kPositionsAhead = 64;

MESHFOLD_INLINE void of_bundles(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles,
                                int64_t all, uint64_t* out) {
  const int64_t first = of.ends[0], last = std::min<int64_t>(of.ends[of.groups], first + kRowsAhead);
  for (int64_t g = 0; g < bundles; ++g, signature += stride) {
    if (g + kBundlesAhead < all) {
      const uint64_t* later = signature + kBundlesAhead * stride;
      for (int64_t r = first; r < last; ++r) prefetch_line(later + of.rows[r] * kWords);
    }
    Set found;
    in_rows(signature, of, found);
    store(out + g * kWords, found);
  }
}

// The word of a row that contains a position. row: of bundle 0.
MESHFOLD_INLINE const uint64_t* word_of(const uint64_t* row, int64_t stride, int32_t position) {
  const auto at = static_cast<uint32_t>(position);
  return row + at / kBundle * stride + at % kBundle / 64;
}

// Narrows positions from place i on, after `kept` kept ones. Without branches, which would be mispredicted.
MESHFOLD_INLINE int64_t narrow(const uint64_t* row, int64_t stride, bool wanted, int32_t* positions, int64_t kept,
                               int64_t i, int64_t count) {
  for (; i < count; ++i) {
    if (i + kPositionsAhead < count) prefetch_line(word_of(row, stride, positions[i + kPositionsAhead]));
    const int32_t position = positions[i];
    const bool holds = *word_of(row, stride, position) >> (position & 63) & 1;
    positions[kept] = position;
    kept += holds == wanted;
  }
  return kept;
}

int64_t narrow_plain(const uint64_t* row, int64_t stride, bool wanted, int32_t* positions, int64_t count) {
  return narrow(row, stride, wanted, positions, 0, 0, count);
}

MESHFOLD_FOR_EACH_LEVEL(void, in_rows_level, of_bundles,
                        (const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles, int64_t all,
                         uint64_t* out),
                        (signature, stride, of, bundles, all, out))

void nonempty_words_plain(const uint64_t* words, int64_t bundles, uint8_t* masks) {
  for (int64_t g = 0; g < bundles; ++g) {
    uint32_t bits = 0;
    for (int w = 0; w < kWords; ++w) bits |= static_cast<uint32_t>(words[g * kWords + w] != 0) << w;
    masks[g] = static_cast<uint8_t>(bits);
  }
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void nonempty_words_avx2(const uint64_t* words, int64_t bundles, uint8_t* masks) {
  const __m256i zero = _mm256_setzero_si256();
  for (int64_t g = 0; g < bundles; ++g) {
    int bits = 0;
    for (int half = 0; half < 2; ++half) {
      const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + g * kWords + half * 4));
      bits |= _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(own, zero))) << half * 4;
    }
    masks[g] = static_cast<uint8_t>(~bits);
  }
}

MESHFOLD_AVX512 void nonempty_words_avx512(const uint64_t* words, int64_t bundles, uint8_t* masks) {
  for (int64_t g = 0; g < bundles; ++g) {
    const __m512i own = _mm512_loadu_si512(words + g * kWords);
    masks[g] = static_cast<uint8_t>(_mm512_test_epi64_mask(own, own));
  }
}

MESHFOLD_AVX2 int64_t narrow_avx2(const uint64_t* row, int64_t stride, bool wanted, int32_t* positions, int64_t count) {
  return narrow(row, stride, wanted, positions, 0, 0, count);
}

MESHFOLD_AVX512 int64_t narrow_avx512(const uint64_t* row, int64_t stride, bool wanted, int32_t* positions,
                                      int64_t count) {
  const __m512i halves = _mm512_set1_epi32(static_cast<int32_t>(stride * 2)), one = _mm512_set1_epi32(1);
  const __m512i flipped = _mm512_set1_epi32(wanted ? 0 : -1);
  int64_t kept = 0, i = 0;
  // Positions stored beyond the kept ones were read before.
  for (; i + 16 <= count; i += 16) {
    const int64_t ahead = std::min(i + kPositionsAhead, count), end = std::min(ahead + 16, count);
    for (int64_t later = ahead; later < end; ++later) prefetch_line(word_of(row, stride, positions[later]));
    const __m512i own = _mm512_loadu_si512(positions + i);
    const __m512i within = _mm512_and_si512(_mm512_srli_epi32(own, 5), _mm512_set1_epi32(kBundle / 32 - 1));
    const __m512i at = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(own, 9), halves), within);
    const __m512i words = _mm512_xor_si512(_mm512_i32gather_epi32(at, row, 4), flipped);
    const __m512i bits = _mm512_srlv_epi32(words, _mm512_and_si512(own, _mm512_set1_epi32(31)));
    const __mmask16 mask = _mm512_test_epi32_mask(bits, one);
    _mm512_storeu_si512(positions + kept, _mm512_maskz_compress_epi32(mask, own));
    kept += _mm_popcnt_u32(mask);
  }
  return narrow(row, stride, wanted, positions, kept, i, count);
}

#endif

}  // namespace

void in_rows(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles, int64_t all,
             uint64_t* out) noexcept {
  in_rows_level(signature, stride, of, bundles, all, out);
}

int64_t narrow_by_row(const uint64_t* signature, int64_t stride, int32_t row, bool wanted, int32_t* positions,
                      int64_t count) noexcept {
  const uint64_t* const own = signature + row * kWords;
#if MESHFOLD_X86
  // Offsets must fit 32 bits.
  const bool near = count == 0 || (positions[count - 1] / kBundle + 1) * stride * 2 <= INT32_MAX;
  if (isa() == Isa::avx512 && near) return narrow_avx512(own, stride, wanted, positions, count);
  if (isa() >= Isa::avx2) return narrow_avx2(own, stride, wanted, positions, count);
#endif
  return narrow_plain(own, stride, wanted, positions, count);
}

void nonempty_words(const uint64_t* words, int64_t bundles, uint8_t* masks) noexcept {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return nonempty_words_avx512(words, bundles, masks);
  if (isa() == Isa::avx2) return nonempty_words_avx2(words, bundles, masks);
#endif
  nonempty_words_plain(words, bundles, masks);
}

}  // namespace meshfold
