#include "rows.h"

#include <algorithm>

#include "isa.h"

namespace meshfold {
namespace {

MESHFOLD_INLINE void of_bundles(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles,
                                int64_t all, uint64_t* out) {
  const int64_t first = of.ends[0], last = std::min<int64_t>(of.ends[of.groups], first + kRowsAhead);
  for (int64_t g = 0; g < bundles; ++g, signature += stride) {
    if (g + kBundlesAhead < all) {
      const uint64_t* later = signature + kBundlesAhead * stride;
      for (int64_t r = first; r < last; ++r) __builtin_prefetch(later + of.rows[r] * kWords);
    }
    Set found;
    in_rows(signature, of, found);
    store(out + g * kWords, found);
  }
}

void in_rows_plain(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles, int64_t all,
                      uint64_t* out) {
  of_bundles(signature, stride, of, bundles, all, out);
}

void held_words_plain(const uint64_t* words, int64_t bundles, uint8_t* held) {
  for (int64_t g = 0; g < bundles; ++g) {
    uint32_t bits = 0;
    for (int w = 0; w < kWords; ++w) bits |= static_cast<uint32_t>(words[g * kWords + w] != 0) << w;
    held[g] = static_cast<uint8_t>(bits);
  }
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void in_rows_avx2(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles,
                                   int64_t all, uint64_t* out) {
  of_bundles(signature, stride, of, bundles, all, out);
}

MESHFOLD_AVX2 void held_words_avx2(const uint64_t* words, int64_t bundles, uint8_t* held) {
  const __m256i zero = _mm256_setzero_si256();
  for (int64_t g = 0; g < bundles; ++g) {
    int bits = 0;
    for (int half = 0; half < 2; ++half) {
      const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + g * kWords + half * 4));
      bits |= _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(own, zero))) << half * 4;
    }
    held[g] = static_cast<uint8_t>(~bits);
  }
}

MESHFOLD_AVX512 void in_rows_avx512(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles,
                                       int64_t all, uint64_t* out) {
  of_bundles(signature, stride, of, bundles, all, out);
}

MESHFOLD_AVX512 void held_words_avx512(const uint64_t* words, int64_t bundles, uint8_t* held) {
  for (int64_t g = 0; g < bundles; ++g) {
    const __m512i own = _mm512_loadu_si512(words + g * kWords);
    held[g] = static_cast<uint8_t>(_mm512_test_epi64_mask(own, own));
  }
}

#endif

}  // namespace

void in_rows(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles, int64_t all,
                uint64_t* out) noexcept {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return in_rows_avx512(signature, stride, of, bundles, all, out);
  if (isa() == Isa::avx2) return in_rows_avx2(signature, stride, of, bundles, all, out);
#endif
  in_rows_plain(signature, stride, of, bundles, all, out);
}

void held_words(const uint64_t* words, int64_t bundles, uint8_t* held) noexcept {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return held_words_avx512(words, bundles, held);
  if (isa() == Isa::avx2) return held_words_avx2(words, bundles, held);
#endif
  held_words_plain(words, bundles, held);
}

}  // namespace meshfold
