#include "search/coarse.h"

#include "native/fold.h"
#include "native/isa.h"

namespace meshfold {
namespace {

constexpr int64_t kRegister = 64;
// Beyond, a total could leave int32: 32 * 15 * 127 * 32,768 < 2^31.
constexpr int64_t kNarrow = 32768;
// An item's value is 32 (u - 8) + 15, where u is what four bits hold.
constexpr int64_t kScale = 32, kBias = 32 * 8 - 15;

// Prefetch distance in items that lie anywhere.
constexpr int64_t kAhead = 64;

// Rows of items: consecutive ones, or those of a list of positions.
struct Consecutive {
  const uint8_t* coarse;
  const float* scales;
  int64_t width;
  const int64_t* ahead;
  const uint8_t* row(int64_t i) const { return coarse + i * width; }
  float scale(int64_t i) const { return scales[i]; }
  void begin(int64_t) const {}
  // Prefetches for the 16 items from i on.
  MESHFOLD_INLINE void prefetch16(int64_t i, int64_t) const {
    if (ahead) prefetch_coarse(coarse, scales, width, ahead[i / kPrefetchItems]);
  }
};

struct Listed {
  const uint8_t* coarse;
  const float* scales;
  int64_t width;
  const int32_t* at;
  const uint8_t* row(int64_t i) const { return coarse + static_cast<int64_t>(at[i]) * width; }
  float scale(int64_t i) const { return scales[at[i]]; }
  void begin(int64_t n) const {
    for (int64_t i = 0; i < kAhead; i += 16) prefetch16(i - kAhead, n);
  }
  // Prefetches for 16 of the n items from i on.
  MESHFOLD_INLINE void prefetch16(int64_t i, int64_t n) const {
    for (int64_t j = i + kAhead; j < i + kAhead + 16 && j < n; ++j) {
      prefetch_line(row(j));
      prefetch_line(scales + at[j]);
    }
  }
};

using Halves = CoarseQuery::Halves;

template <class Items>
float score_plain(const Halves& query, const Items& items, int64_t i) {
  const uint8_t* row = items.row(i);
  int64_t total = 0;
  for (int64_t start = 0; start < items.width; start += kNarrow) {
    const int64_t stop = start + kNarrow < items.width ? start + kNarrow : items.width;
    int32_t part = 0;
    for (int64_t j = start; j < stop; ++j) part += query.low[j] * (row[j] & 15) + query.high[j] * (row[j] >> 4);
    total += part;
  }
  return static_cast<float>(kScale * total - query.bias) * items.scale(i);
}

#if MESHFOLD_X86

// Width of a row: one register, less than one, or any.
enum class Width { whole, part, any };

MESHFOLD_AVX2 inline __m256 scales8(const Consecutive& items, int64_t i) { return _mm256_loadu_ps(items.scales + i); }

MESHFOLD_AVX2 inline __m256 scales8(const Listed& items, int64_t i) {
  return _mm256_setr_ps(items.scale(i), items.scale(i + 1), items.scale(i + 2), items.scale(i + 3), items.scale(i + 4),
                        items.scale(i + 5), items.scale(i + 6), items.scale(i + 7));
}

// Each 16 bits: products of a query with 32 bytes, whose halves are taken apart. Four of at most 15 * 127.
MESHFOLD_AVX2 inline __m256i products(__m256i low, __m256i high, const Halves& query, int64_t j) {
  return _mm256_add_epi16(
      _mm256_maddubs_epi16(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query.low + j))),
      _mm256_maddubs_epi16(high, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query.high + j))));
}

// Lanes add up to the total of an item, but for bytes beyond the last 32.
template <Width W, int Queries>
MESHFOLD_AVX2 inline void sums_avx2(const Halves* queries, const uint8_t* row, int64_t width, __m256i* sums) {
  const __m256i half = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  const int64_t whole = W == Width::whole ? kRegister : width;
  for (int q = 0; q < Queries; ++q) sums[q] = _mm256_setzero_si256();
  int64_t j = 0;
  for (; j + 64 <= whole; j += 64) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j + 32));
    const __m256i a_low = _mm256_and_si256(a, half), a_high = _mm256_and_si256(_mm256_srli_epi16(a, 4), half);
    const __m256i b_low = _mm256_and_si256(b, half), b_high = _mm256_and_si256(_mm256_srli_epi16(b, 4), half);
    for (int q = 0; q < Queries; ++q) {
      // Eight products fit 16 bits, too.
      const __m256i pairs = _mm256_add_epi16(products(a_low, a_high, queries[q], j),
                                             products(b_low, b_high, queries[q], j + 32));
      sums[q] = _mm256_add_epi32(sums[q], _mm256_madd_epi16(pairs, ones));
    }
  }
  if (W != Width::whole && j + 32 <= whole) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j));
    const __m256i low = _mm256_and_si256(a, half), high = _mm256_and_si256(_mm256_srli_epi16(a, 4), half);
    for (int q = 0; q < Queries; ++q) {
      sums[q] = _mm256_add_epi32(sums[q], _mm256_madd_epi16(products(low, high, queries[q], j), ones));
    }
  }
}

// scores: [Queries, stride].
template <Width W, int Queries, class Items>
MESHFOLD_AVX2 void scores_avx2(const Halves* queries, const Items& items, int64_t n, float* scores, int64_t stride) {
  items.begin(n);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    if (i % 16 == 0) items.prefetch16(i, n);
    __m256i fours[Queries][2];
#pragma GCC unroll 2
    for (int four = 0; four < 2; ++four) {
      __m256i sums[4][Queries];
#pragma GCC unroll 4
      for (int item = 0; item < 4; ++item) {
        sums_avx2<W, Queries>(queries, items.row(i + 4 * four + item), items.width, sums[item]);
      }
      for (int q = 0; q < Queries; ++q) {
        fours[q][four] = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0][q], sums[1][q]),
                                           _mm256_hadd_epi32(sums[2][q], sums[3][q]));
      }
    }
    const __m256 scales = scales8(items, i);
    for (int q = 0; q < Queries; ++q) {
      __m256i totals = _mm256_add_epi32(_mm256_permute2x128_si256(fours[q][0], fours[q][1], 0x20),
                                        _mm256_permute2x128_si256(fours[q][0], fours[q][1], 0x31));
      if (W != Width::whole && items.width % 32) {
        alignas(32) int32_t rest[8] = {};
        for (int item = 0; item < 8; ++item) {
          const uint8_t* row = items.row(i + item);
          for (int64_t j = items.width / 32 * 32; j < items.width; ++j) {
            rest[item] += queries[q].low[j] * (row[j] & 15) + queries[q].high[j] * (row[j] >> 4);
          }
        }
        totals = _mm256_add_epi32(totals, _mm256_load_si256(reinterpret_cast<const __m256i*>(rest)));
      }
      const __m256i off = _mm256_set1_epi32(static_cast<int32_t>(queries[q].bias));
      const __m256 exact = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_slli_epi32(totals, 5), off));
      _mm256_storeu_ps(scores + q * stride + i, _mm256_mul_ps(exact, scales));
    }
  }
  for (; i < n; ++i) {
    for (int q = 0; q < Queries; ++q) scores[q * stride + i] = score_plain(queries[q], items, i);
  }
}

MESHFOLD_AVX512 inline __m512 scales16(const Consecutive& items, int64_t i, __mmask16 there) {
  return _mm512_maskz_loadu_ps(there, items.scales + i);
}

MESHFOLD_AVX512 inline __m512 scales16(const Listed& items, int64_t i, __mmask16 there) {
  const __m512i at = _mm512_maskz_loadu_epi32(there, items.at + i);
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), there, at, items.scales, 4);
}

// The halves of bytes, separated once for all queries.
struct Nibbles {
  __m512i low, high;
};

MESHFOLD_AVX512 inline Nibbles nibbles(__m512i bytes) {
  const __m512i half = _mm512_set1_epi8(15);
  return {_mm512_and_si512(bytes, half), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), half)};
}

MESHFOLD_AVX512 inline __m512i added(__m512i sums, const Nibbles& of, const Halves& query, int64_t j) {
  sums = _mm512_dpbusd_epi32(sums, of.low, _mm512_loadu_si512(query.low + j));
  return _mm512_dpbusd_epi32(sums, of.high, _mm512_loadu_si512(query.high + j));
}

// Totals of 16 items; beyond n, the last item again.
template <Width W, int Queries, class Items>
MESHFOLD_AVX512 inline void totals16(const Halves* queries, const Items& items, int64_t i, int64_t n, __m512i* totals) {
  __m512i fours[Queries][4];
  const __mmask64 rest = _bzhi_u64(~0ULL, static_cast<unsigned>(items.width % kRegister));
#pragma GCC unroll 4
  for (int four = 0; four < 4; ++four) {
    __m512i sums[Queries][4];
#pragma GCC unroll 4
    for (int item = 0; item < 4; ++item) {
      const int64_t place = i + 4 * four + item;
      const uint8_t* row = items.row(place < n ? place : n - 1);
      int64_t j = 0;
      for (int q = 0; q < Queries; ++q) sums[q][item] = _mm512_setzero_si512();
      if (W != Width::part) {
        for (; j + kRegister <= (W == Width::whole ? kRegister : items.width); j += kRegister) {
          const Nibbles own = nibbles(_mm512_loadu_si512(row + j));
          for (int q = 0; q < Queries; ++q) sums[q][item] = added(sums[q][item], own, queries[q], j);
        }
      }
      if (W == Width::part || (W == Width::any && j < items.width)) {
        const Nibbles own = nibbles(_mm512_maskz_loadu_epi8(rest, row + j));
        for (int q = 0; q < Queries; ++q) sums[q][item] = added(sums[q][item], own, queries[q], j);
      }
    }
    for (int q = 0; q < Queries; ++q) {
      const __m512i* of = sums[q];
      fours[q][four] = W == Width::any ? folded(of[0], of[1], of[2], of[3])
                                       : folded_narrow(of[0], of[1], of[2], of[3]);
    }
  }
  for (int q = 0; q < Queries; ++q) totals[q] = across(fours[q][0], fours[q][1], fours[q][2], fours[q][3]);
}

// scores: [Queries, stride].
template <Width W, int Queries, class Items>
MESHFOLD_AVX512 void scores_avx512(const Halves* queries, const Items& items, int64_t n, float* scores,
                                   int64_t stride) {
  items.begin(n);
  for (int64_t i = 0; i < n; i += 16) {
    items.prefetch16(i, n);
    __m512i totals[Queries];
    totals16<W, Queries>(queries, items, i, n, totals);
    const __mmask16 there = static_cast<__mmask16>(_bzhi_u32(0xFFFF, n - i < 16 ? static_cast<unsigned>(n - i) : 16));
    const __m512 scales = scales16(items, i, there);
    for (int q = 0; q < Queries; ++q) {
      const __m512i off = _mm512_set1_epi32(static_cast<int32_t>(queries[q].bias));
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_slli_epi32(totals[q], 5), off));
      _mm512_mask_storeu_ps(scores + q * stride + i, there, _mm512_mul_ps(exact, scales));
    }
  }
}

template <int Queries, class Items>
void scores_any_width(const Halves* queries, const Items& items, int64_t n, float* scores, int64_t stride) {
  if (isa() == Isa::avx2) {
    if (items.width == kRegister) return scores_avx2<Width::whole, Queries>(queries, items, n, scores, stride);
    return scores_avx2<Width::any, Queries>(queries, items, n, scores, stride);
  }
  if (items.width == kRegister) return scores_avx512<Width::whole, Queries>(queries, items, n, scores, stride);
  if (items.width < kRegister) return scores_avx512<Width::part, Queries>(queries, items, n, scores, stride);
  scores_avx512<Width::any, Queries>(queries, items, n, scores, stride);
}

#endif

// One query. narrow: whether its totals fit int32.
template <class Items>
void scores_of(const Halves& query, bool narrow, const Items& items, int64_t n, float* scores) {
#if MESHFOLD_X86
  if (narrow && isa() != Isa::plain) return scores_any_width<1>(&query, items, n, scores, n);
#endif
  (void)narrow;
  for (int64_t i = 0; i < n; ++i) scores[i] = score_plain(query, items, i);
}

}  // namespace

CoarseQuery::CoarseQuery(const int8_t* codes, int64_t dimension)
    : width_(coarse_width(dimension)), narrow_(dimension <= kNarrow) {
  const int64_t padded = (width_ + kRegister - 1) / kRegister * kRegister;
  codes_.assign(2 * padded, 0);
  int64_t sum = 0;
  for (int64_t j = 0; j < dimension; ++j) {
    codes_[j < width_ ? j : padded + j - width_] = codes[j];
    sum += codes[j];
  }
  bias_ = kBias * sum;
}

void CoarseQuery::gather(const uint8_t* coarse, const float* scales, const int32_t* at, int64_t n,
                         float* scores) const {
  scores_of(halves(), narrow_, Listed{coarse, scales, width_, at}, n, scores);
}

void coarse_scores(const CoarseQuery* const* queries, int count, const uint8_t* coarse, const float* scales, int64_t n,
                   const int64_t* ahead, float* scores, int64_t stride) {
  const CoarseQuery& first = *queries[0];
  const Consecutive items{coarse, scales, first.width_, ahead};
  Halves halves[kCoarseQueries];
  for (int q = 0; q < count; ++q) halves[q] = queries[q]->halves();
#if MESHFOLD_X86
  if (first.narrow_ && isa() != Isa::plain) {
    if (count == 2) return scores_any_width<2>(halves, items, n, scores, stride);
    if (count == 3) return scores_any_width<3>(halves, items, n, scores, stride);
    if (count == 4) return scores_any_width<4>(halves, items, n, scores, stride);
  }
#endif
  for (int q = 0; q < count; ++q) scores_of(halves[q], first.narrow_, items, n, scores + q * stride);
}

}  // namespace meshfold
