#include "coarse.h"

#include "fold.h"
#include "isa.h"

namespace meshfold {
namespace {

constexpr int64_t kRegister = 64;
// Beyond, a total could leave int32: 32 * 15 * 127 * 32,768 < 2^31.
constexpr int64_t kNarrow = 32768;
// An item's value is 32 (u - 8) + 15, where u is what four bits hold.
constexpr int64_t kScale = 32, kBias = 32 * 8 - 15;

// Of items that lie anywhere, those asked for ahead: what is on its way while others are scored.
constexpr int64_t kAhead = 48;

// Where the rows of a run of items start: one after the other, or wherever a list says.
struct Consecutive {
  const uint8_t* coarse;
  const float* units;
  int64_t width;
  const uint8_t* row(int64_t i) const { return coarse + i * width; }
  float unit(int64_t i) const { return units[i]; }
  void prefetch16(int64_t, int64_t) const {}
};

struct Listed {
  const uint8_t* coarse;
  const float* units;
  int64_t width;
  const int32_t* at;
  const uint8_t* row(int64_t i) const { return coarse + static_cast<int64_t>(at[i]) * width; }
  float unit(int64_t i) const { return units[at[i]]; }
  // Of the n, 16 from i on.
  void prefetch16(int64_t i, int64_t n) const {
    for (int64_t j = i; j < i + 16 && j < n; ++j) {
      __builtin_prefetch(row(j));
      __builtin_prefetch(units + at[j]);
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
  return static_cast<float>(kScale * total - query.bias) * items.unit(i);
}

#if MESHFOLD_X86

template <class Items>
MESHFOLD_AVX2 float score_avx2(const Halves& query, const Items& items, int64_t i) {
  const uint8_t* row = items.row(i);
  const __m256i half = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i sums = _mm256_setzero_si256();
  int64_t j = 0;
  for (; j + 32 <= items.width; j += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + j));
    const __m256i low = _mm256_and_si256(bytes, half);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), half);
    // Four products of at most 15 * 127 fit 16 bits.
    const __m256i pairs = _mm256_add_epi16(
        _mm256_maddubs_epi16(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query.low + j))),
        _mm256_maddubs_epi16(high, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query.high + j))));
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
  }
  __m128i folded = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  folded = _mm_add_epi32(folded, _mm_shuffle_epi32(folded, 0x4E));
  folded = _mm_add_epi32(folded, _mm_shuffle_epi32(folded, 0xB1));
  int64_t total = _mm_cvtsi128_si32(folded);
  for (; j < items.width; ++j) total += query.low[j] * (row[j] & 15) + query.high[j] * (row[j] >> 4);
  return static_cast<float>(kScale * total - query.bias) * items.unit(i);
}

template <class Items>
MESHFOLD_AVX2 void scores_avx2(const Halves& query, const Items& items, int64_t n, float* scores) {
  for (int64_t i = 0; i < n; ++i) scores[i] = score_avx2(query, items, i);
}

MESHFOLD_AVX512 inline __m512 units16(const Consecutive& items, int64_t i, __mmask16 there) {
  return _mm512_maskz_loadu_ps(there, items.units + i);
}

MESHFOLD_AVX512 inline __m512 units16(const Listed& items, int64_t i, __mmask16 there) {
  const __m512i at = _mm512_maskz_loadu_epi32(there, items.at + i);
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), there, at, items.units, 4);
}

// The halves of bytes, taken apart once for all queries.
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

// How rows are read: each is one register, or less than one, or any number of them.
enum class Width { whole, part, any };

// Totals of 16 items, some of them again where there are fewer.
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
  for (int64_t ahead = 0; ahead < kAhead; ahead += 16) items.prefetch16(ahead, n);
  for (int64_t i = 0; i < n; i += 16) {
    items.prefetch16(i + kAhead, n);
    __m512i totals[Queries];
    totals16<W, Queries>(queries, items, i, n, totals);
    const __mmask16 there = static_cast<__mmask16>(_bzhi_u32(0xFFFF, n - i < 16 ? static_cast<unsigned>(n - i) : 16));
    const __m512 units = units16(items, i, there);
    for (int q = 0; q < Queries; ++q) {
      const __m512i off = _mm512_set1_epi32(static_cast<int32_t>(queries[q].bias));
      const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_slli_epi32(totals[q], 5), off));
      _mm512_mask_storeu_ps(scores + q * stride + i, there, _mm512_mul_ps(exact, units));
    }
  }
}

template <int Queries, class Items>
void scores_any_width(const Halves* queries, const Items& items, int64_t n, float* scores, int64_t stride) {
  if (items.width == kRegister) return scores_avx512<Width::whole, Queries>(queries, items, n, scores, stride);
  if (items.width < kRegister) return scores_avx512<Width::part, Queries>(queries, items, n, scores, stride);
  scores_avx512<Width::any, Queries>(queries, items, n, scores, stride);
}

#endif

// One query: narrow: whether its totals fit int32.
template <class Items>
void scores_of(const Halves& query, bool narrow, const Items& items, int64_t n, float* scores) {
#if MESHFOLD_X86
  if (narrow && isa() == Isa::avx512) return scores_any_width<1>(&query, items, n, scores, n);
  if (narrow && isa() == Isa::avx2) return scores_avx2(query, items, n, scores);
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

void CoarseQuery::gather(const uint8_t* coarse, const float* units, const int32_t* at, int64_t n,
                         float* scores) const {
  scores_of(halves(), narrow_, Listed{coarse, units, width_, at}, n, scores);
}

void coarse_scores(const CoarseQuery* const* queries, int count, const uint8_t* coarse, const float* units, int64_t n,
                   float* scores, int64_t stride) {
  const CoarseQuery& first = *queries[0];
  const Consecutive items{coarse, units, first.width_};
  Halves halves[kCoarseQueries];
  for (int q = 0; q < count; ++q) halves[q] = queries[q]->halves();
#if MESHFOLD_X86
  if (first.narrow_ && isa() == Isa::avx512) {
    if (count == 2) return scores_any_width<2>(halves, items, n, scores, stride);
    if (count == 3) return scores_any_width<3>(halves, items, n, scores, stride);
    if (count == 4) return scores_any_width<4>(halves, items, n, scores, stride);
  }
#endif
  for (int q = 0; q < count; ++q) scores_of(halves[q], first.narrow_, items, n, scores + q * stride);
}

}  // namespace meshfold
