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

// A query's codes for the low halves of bytes, and for the high halves.
struct Halves {
  const int8_t* low;
  const int8_t* high;
  int64_t bias;
};

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

MESHFOLD_AVX512 inline __m512 units16(const Consecutive& items, int64_t i) { return _mm512_loadu_ps(items.units + i); }

MESHFOLD_AVX512 inline __m512 units16(const Listed& items, int64_t i) {
  return _mm512_i32gather_ps(_mm512_loadu_si512(items.at + i), items.units, 4);
}

MESHFOLD_AVX512 inline __m512i added(__m512i sums, __m512i bytes, __m512i low, __m512i high) {
  const __m512i half = _mm512_set1_epi8(15);
  sums = _mm512_dpbusd_epi32(sums, _mm512_and_si512(bytes, half), low);
  return _mm512_dpbusd_epi32(sums, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), half), high);
}

// Registers: whole 64-byte pieces of a row, known when compiled, or 0 for any width.
template <int Registers, class Items>
MESHFOLD_AVX512 inline __m128i totals4(const Halves& query, const Items& items, int64_t i) {
  const uint8_t *w = items.row(i), *x = items.row(i + 1), *y = items.row(i + 2), *z = items.row(i + 3);
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  const int64_t whole = Registers > 0 ? Registers * kRegister : items.width / kRegister * kRegister;
  int64_t j = 0;
  for (; j < whole; j += kRegister) {
    const __m512i low = _mm512_loadu_si512(query.low + j), high = _mm512_loadu_si512(query.high + j);
    a = added(a, _mm512_loadu_si512(w + j), low, high);
    b = added(b, _mm512_loadu_si512(x + j), low, high);
    c = added(c, _mm512_loadu_si512(y + j), low, high);
    d = added(d, _mm512_loadu_si512(z + j), low, high);
  }
  if (Registers == 0 && j < items.width) {
    const __mmask64 rest = _bzhi_u64(~0ULL, static_cast<unsigned>(items.width - j));
    const __m512i low = _mm512_loadu_si512(query.low + j), high = _mm512_loadu_si512(query.high + j);
    a = added(a, _mm512_maskz_loadu_epi8(rest, w + j), low, high);
    b = added(b, _mm512_maskz_loadu_epi8(rest, x + j), low, high);
    c = added(c, _mm512_maskz_loadu_epi8(rest, y + j), low, high);
    d = added(d, _mm512_maskz_loadu_epi8(rest, z + j), low, high);
  }
  return folded(a, b, c, d);
}

template <int Registers, class Items>
MESHFOLD_AVX512 int64_t scores_avx512(const Halves& query, const Items& items, int64_t n, float* scores) {
  const __m512i off = _mm512_set1_epi32(static_cast<int32_t>(query.bias));
  int64_t i = 0;
  for (int64_t ahead = 0; ahead < kAhead; ahead += 16) items.prefetch16(ahead, n);
  for (; i + 16 <= n; i += 16) {
    items.prefetch16(i + kAhead, n);
    __m512i totals = _mm512_castsi128_si512(totals4<Registers>(query, items, i));
    totals = _mm512_inserti32x4(totals, totals4<Registers>(query, items, i + 4), 1);
    totals = _mm512_inserti32x4(totals, totals4<Registers>(query, items, i + 8), 2);
    totals = _mm512_inserti32x4(totals, totals4<Registers>(query, items, i + 12), 3);
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_slli_epi32(totals, 5), off));
    _mm512_storeu_ps(scores + i, _mm512_mul_ps(exact, units16(items, i)));
  }
  for (; i + 4 <= n; i += 4) {
    alignas(16) int32_t totals[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(totals), totals4<Registers>(query, items, i));
    for (int lane = 0; lane < 4; ++lane) {
      scores[i + lane] = static_cast<float>(kScale * totals[lane] - query.bias) * items.unit(i + lane);
    }
  }
  return i;
}

#endif

template <class Items>
void scores_of(const Halves& query, bool narrow, const Items& items, int64_t n, float* scores) {
  int64_t done = 0;
#if MESHFOLD_X86
  if (narrow && isa() == Isa::avx512) {
    done = items.width == kRegister ? scores_avx512<1>(query, items, n, scores)
                                    : scores_avx512<0>(query, items, n, scores);
  } else if (narrow && isa() == Isa::avx2) {
    return scores_avx2(query, items, n, scores);
  }
#endif
  (void)narrow;
  for (; done < n; ++done) scores[done] = score_plain(query, items, done);
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

void CoarseQuery::run(const uint8_t* coarse, const float* units, int64_t n, float* scores) const {
  const Halves query{codes_.data(), codes_.data() + codes_.size() / 2, bias_};
  scores_of(query, narrow_, Consecutive{coarse, units, width_}, n, scores);
}

void CoarseQuery::gather(const uint8_t* coarse, const float* units, const int32_t* at, int64_t n,
                         float* scores) const {
  const Halves query{codes_.data(), codes_.data() + codes_.size() / 2, bias_};
  scores_of(query, narrow_, Listed{coarse, units, width_, at}, n, scores);
}

}  // namespace meshfold
