#include "search/dot.h"

#include "native/fold.h"
#include "native/isa.h"

namespace meshfold {
namespace {

constexpr int64_t kRegister = 64;
// Beyond, a total of unsigned times signed bytes could leave int32: 255 * 128 * 65,536 < 2^31.
constexpr int64_t kNarrow = 65536;

// Rows that lie back to back.
struct Items {
  const int8_t* codes;
  const float* scales;
  int64_t dimension;
  const int8_t* row(int64_t i) const { return codes + i * dimension; }
};

float score_plain(const int8_t* query, const Items& items, int64_t i) {
  const int8_t* row = items.row(i);
  int64_t total = 0;
  for (int64_t start = 0; start < items.dimension; start += kNarrow) {
    const int64_t stop = start + kNarrow < items.dimension ? start + kNarrow : items.dimension;
    int32_t part = 0;
    for (int64_t j = start; j < stop; ++j) part += static_cast<int32_t>(query[j]) * row[j];
    total += part;
  }
  return static_cast<float>(total) * items.scales[i];
}

void scores_plain(const int8_t* query, const Items& items, int64_t n, float* scores) {
  for (int64_t i = 0; i < n; ++i) scores[i] = score_plain(query, items, i);
}

#if MESHFOLD_X86

MESHFOLD_AVX2 inline int32_t total_avx2(const int16_t* query, const int8_t* row, int64_t dimension) {
  __m256i sums = _mm256_setzero_si256(), more = _mm256_setzero_si256();
  int64_t j = 0;
  for (; j + 32 <= dimension; j += 32) {
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + j)));
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + j + 16)));
    const __m256i* wide = reinterpret_cast<const __m256i*>(query + j);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(low, _mm256_loadu_si256(wide)));
    more = _mm256_add_epi32(more, _mm256_madd_epi16(high, _mm256_loadu_si256(wide + 1)));
  }
  sums = _mm256_add_epi32(sums, more);
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1));
  int32_t total = _mm_cvtsi128_si32(half);
  for (; j < dimension; ++j) total += static_cast<int32_t>(query[j]) * row[j];
  return total;
}

MESHFOLD_AVX2 void scores_avx2(const int16_t* query, const Items& items, int64_t n, float* scores) {
  for (int64_t i = 0; i < n; ++i) {
    scores[i] = static_cast<float>(total_avx2(query, items.row(i), items.dimension)) * items.scales[i];
  }
}

// A row as unsigned bytes: with 128 added, which is one bit flipped.
MESHFOLD_AVX512 inline __m512i biased(__m512i row) {
  return _mm512_xor_si512(row, _mm512_set1_epi8(static_cast<char>(0x80)));
}

// Registers: whole 64-byte pieces of a row, known when compiled, or 0 for any dimension.
template <int Registers>
MESHFOLD_AVX512 inline __m128i totals4(const int8_t* query, const Items& items, int64_t i) {
  const int8_t *w = items.row(i), *x = items.row(i + 1), *y = items.row(i + 2), *z = items.row(i + 3);
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  const int64_t whole = Registers > 0 ? Registers * kRegister : items.dimension / kRegister * kRegister;
  int64_t j = 0;
  for (; j < whole; j += kRegister) {
    const __m512i q = _mm512_loadu_si512(query + j);
    a = _mm512_dpbusd_epi32(a, biased(_mm512_loadu_si512(w + j)), q);
    b = _mm512_dpbusd_epi32(b, biased(_mm512_loadu_si512(x + j)), q);
    c = _mm512_dpbusd_epi32(c, biased(_mm512_loadu_si512(y + j)), q);
    d = _mm512_dpbusd_epi32(d, biased(_mm512_loadu_si512(z + j)), q);
  }
  if (Registers == 0 && j < items.dimension) {
    const __mmask64 rest = _bzhi_u64(~0ULL, static_cast<unsigned>(items.dimension - j));
    const __m512i q = _mm512_loadu_si512(query + j);
    a = _mm512_dpbusd_epi32(a, biased(_mm512_maskz_loadu_epi8(rest, w + j)), q);
    b = _mm512_dpbusd_epi32(b, biased(_mm512_maskz_loadu_epi8(rest, x + j)), q);
    c = _mm512_dpbusd_epi32(c, biased(_mm512_maskz_loadu_epi8(rest, y + j)), q);
    d = _mm512_dpbusd_epi32(d, biased(_mm512_maskz_loadu_epi8(rest, z + j)), q);
  }
  return across(folded(a, b, c, d));
}

template <int Registers>
MESHFOLD_AVX512 int64_t scores_avx512(const int8_t* query, int32_t bias, const Items& items, int64_t n,
                                      float* scores) {
  const __m512i off = _mm512_set1_epi32(bias);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m512i totals = _mm512_castsi128_si512(totals4<Registers>(query, items, i));
    totals = _mm512_inserti32x4(totals, totals4<Registers>(query, items, i + 4), 1);
    totals = _mm512_inserti32x4(totals, totals4<Registers>(query, items, i + 8), 2);
    totals = _mm512_inserti32x4(totals, totals4<Registers>(query, items, i + 12), 3);
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(totals, off));
    _mm512_storeu_ps(scores + i, _mm512_mul_ps(exact, _mm512_loadu_ps(items.scales + i)));
  }
  for (; i + 4 <= n; i += 4) {
    alignas(16) int32_t totals[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(totals), totals4<Registers>(query, items, i));
    for (int lane = 0; lane < 4; ++lane) {
      scores[i + lane] = static_cast<float>(totals[lane] - bias) * items.scales[i + lane];
    }
  }
  return i;
}

#endif

void scores_of(const int8_t* query, const int16_t* wide, int32_t bias, const Items& items, int64_t n,
               float* scores) {
  int64_t done = 0;
#if MESHFOLD_X86
  if (items.dimension <= kNarrow && isa() == Isa::avx512) {
    done = items.dimension == 2 * kRegister ? scores_avx512<2>(query, bias, items, n, scores)
           : items.dimension == kRegister   ? scores_avx512<1>(query, bias, items, n, scores)
                                            : scores_avx512<0>(query, bias, items, n, scores);
  } else if (items.dimension <= kNarrow && isa() == Isa::avx2) {
    scores_avx2(wide, items, n, scores);
    return;
  }
#endif
  (void)wide;
  (void)bias;
  for (; done < n; ++done) scores[done] = score_plain(query, items, done);
}

}  // namespace

DotQuery::DotQuery(const int8_t* codes, int64_t dimension) : dimension_(dimension) {
  const int64_t padded = (dimension + kRegister - 1) / kRegister * kRegister;
  codes_.assign(codes, codes + dimension);
  codes_.resize(padded, 0);
  wide_.assign(codes, codes + dimension);
  int64_t sum = 0;
  for (int64_t j = 0; j < dimension; ++j) sum += codes[j];
  if (dimension <= kNarrow) bias_ = static_cast<int32_t>(sum * 128);
}

void DotQuery::run(const int8_t* codes, const float* scales, int64_t n, float* scores) const {
  scores_of(codes_.data(), wide_.data(), bias_, Items{codes, scales, dimension_}, n, scores);
}

}  // namespace meshfold
