#include "dot.h"

#include <bit>

#include "isa.h"

namespace meshfold {
namespace {

constexpr int64_t kRegister = 64;
// Beyond, a total of unsigned times signed bytes could leave int32: 255 * 128 * 65,536 < 2^31.
constexpr int64_t kNarrow = 65536;

// Where the rows of a run of items start: one after the other, or wherever a list says.
struct Consecutive {
  const int8_t* codes;
  const float* units;
  int64_t dimension;
  const int8_t* row(int64_t i) const { return codes + i * dimension; }
  float unit(int64_t i) const { return units[i]; }
};

struct Listed {
  const int8_t* codes;
  const float* units;
  int64_t dimension;
  const int32_t* at;
  const int8_t* row(int64_t i) const { return codes + static_cast<int64_t>(at[i]) * dimension; }
  float unit(int64_t i) const { return units[at[i]]; }
};

template <class Items>
float score_plain(const int8_t* query, const Items& items, int64_t i) {
  const int8_t* row = items.row(i);
  int64_t total = 0;
  for (int64_t start = 0; start < items.dimension; start += kNarrow) {
    const int64_t stop = start + kNarrow < items.dimension ? start + kNarrow : items.dimension;
    int32_t part = 0;
    for (int64_t j = start; j < stop; ++j) part += static_cast<int32_t>(query[j]) * row[j];
    total += part;
  }
  return static_cast<float>(total) * items.unit(i);
}

template <class Items>
void scores_plain(const int8_t* query, const Items& items, int64_t n, float* scores) {
  for (int64_t i = 0; i < n; ++i) scores[i] = score_plain(query, items, i);
}

int64_t at_least_plain(const float* scores, int64_t n, float threshold, int32_t* indices) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    indices[found] = static_cast<int32_t>(i);
    found += scores[i] >= threshold;
  }
  return found;
}

int64_t positions_plain(uint64_t word, int32_t base, int32_t* at) {
  int64_t found = 0;
  for (; word; word &= word - 1) at[found++] = base + std::countr_zero(word);
  return found;
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

template <class Items>
MESHFOLD_AVX2 void scores_avx2(const int16_t* query, const Items& items, int64_t n, float* scores) {
  for (int64_t i = 0; i < n; ++i) {
    scores[i] = static_cast<float>(total_avx2(query, items.row(i), items.dimension)) * items.unit(i);
  }
}

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

MESHFOLD_AVX512 inline __m512 units16(const Consecutive& items, int64_t i) { return _mm512_loadu_ps(items.units + i); }

MESHFOLD_AVX512 inline __m512 units16(const Listed& items, int64_t i) {
  return _mm512_i32gather_ps(_mm512_loadu_si512(items.at + i), items.units, 4);
}

// A row as unsigned bytes: with 128 added, which is one bit flipped.
MESHFOLD_AVX512 inline __m512i biased(__m512i row) {
  return _mm512_xor_si512(row, _mm512_set1_epi8(static_cast<char>(0x80)));
}

// The four lanes are the totals of four rows, each with the bias.
MESHFOLD_AVX512 inline __m128i folded(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// Registers: whole 64-byte pieces of a row, known when compiled, or 0 for any dimension.
template <int Registers, class Items>
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
  return folded(a, b, c, d);
}

template <int Registers, class Items>
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
    _mm512_storeu_ps(scores + i, _mm512_mul_ps(exact, units16(items, i)));
  }
  for (; i + 4 <= n; i += 4) {
    alignas(16) int32_t totals[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(totals), totals4<Registers>(query, items, i));
    for (int lane = 0; lane < 4; ++lane) {
      scores[i + lane] = static_cast<float>(totals[lane] - bias) * items.unit(i + lane);
    }
  }
  return i;
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

// Without a branch a bit, which no processor can foresee.
MESHFOLD_AVX512 int64_t positions_avx512(uint64_t word, int32_t base, int32_t* at) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t found = 0;
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

template <class Items>
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

void DotQuery::run(const int8_t* codes, const float* units, int64_t n, float* scores) const {
  scores_of(codes_.data(), wide_.data(), bias_, Consecutive{codes, units, dimension_}, n, scores);
}

void DotQuery::gather(const int8_t* codes, const float* units, const int32_t* at, int64_t n,
                      float* scores) const {
  scores_of(codes_.data(), wide_.data(), bias_, Listed{codes, units, dimension_, at}, n, scores);
}

int64_t at_least(const float* scores, int64_t n, float threshold, int32_t* indices) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return at_least_avx512(scores, n, threshold, indices);
  if (isa() == Isa::avx2) return at_least_avx2(scores, n, threshold, indices);
#endif
  return at_least_plain(scores, n, threshold, indices);
}

int64_t positions_of(uint64_t word, int32_t base, int32_t* at) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return positions_avx512(word, base, at);
#endif
  return positions_plain(word, base, at);
}

}  // namespace meshfold
