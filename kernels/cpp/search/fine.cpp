#include "search/fine.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "native/fold.h"
#include "native/isa.h"
#include "native/prefetch.h"

namespace meshfold {
namespace {

// Values whose products are summed in int32: 256 * 2^15 * 2^7 = 2^30.
constexpr int64_t kBlock = 256;
// Rows are padded with zeros to whole registers of 16-bit values.
constexpr int64_t kRegister = 32;
constexpr int32_t kRaised = 128;
constexpr int64_t kBytes = 64;
// Beyond, a sum of dots of bytes could leave int32: 2 * 255 * 128 * 32,768 < 2^31.
constexpr int64_t kNarrow = 32768;
// Distance in bytes from which items count as far apart, and most bytes of items to prefetch at once.
constexpr int64_t kApart = 64 << 10, kInOneGo = 128 << 10;
constexpr double kLargest = 340282346638528859811704183484516925440.0;

struct Part {
  const int16_t* codes;
  const int16_t* residuals;
  const int8_t* bytes;
  const int64_t* offsets;
  const int64_t* byte_offsets;
  const float* scales;
  int64_t count;
  int64_t width, padded;
};

// `count` of the `left` items at `at`.
struct Group {
  const int64_t* at;
  int64_t count, left, ahead;
};

MESHFOLD_INLINE void prefetch_items(const FineItems& items, const int64_t* at, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const int8_t* const codes = items.codes + at[i] * items.stride;
    const int8_t* const residuals = items.residuals + at[i] * items.stride;
    for (int64_t j = 0; j < items.dimension; j += 64) prefetch_line(codes + j);
    for (int64_t j = 0; j < items.dimension; j += 64) prefetch_line(residuals + j);
    prefetch_line(items.scales + at[i]);
  }
}

// Prefetches the `count` items that are group.ahead after `first`.
MESHFOLD_INLINE void prefetch_ahead(const FineItems& items, const Group& group, int64_t first, int64_t count) {
  const int64_t ahead = first + group.ahead, left = group.left - ahead;
  prefetch_items(items, group.at + ahead, left < count ? left : count);
}

MESHFOLD_INLINE float similarity(int64_t total, float scale, float query_scale) {
  const double exact = static_cast<double>(total) * scale * query_scale;
  return static_cast<float>(exact > kLargest ? kLargest : exact < -kLargest ? -kLargest : exact);
}

MESHFOLD_INLINE void similarities(const Part& q, const FineItems& items, const Group& group, int16_t* space,
                                  float* to) {
  const int64_t d = items.dimension;
  prefetch_ahead(items, group, 0, group.count);
  for (int64_t i = 0; i < group.count; ++i) {
    const int8_t* codes = items.codes + group.at[i] * items.stride;
    const int8_t* residuals = items.residuals + group.at[i] * items.stride;
    int16_t* fine = space + i * q.width;
    for (int64_t j = 0; j < d; ++j) {
      fine[j] = static_cast<int16_t>(256 * static_cast<int32_t>(codes[j]) + residuals[j] + kRaised);
    }
  }
  for (int64_t t = 0; t < q.count; ++t) {
    for (int64_t i = 0; i < group.count; ++i) {
      const int16_t* fine = space + i * q.width;
      int64_t total = -q.offsets[t];
      for (int64_t start = 0; start < q.width; start += kBlock) {
        const int64_t values = (q.width - start < kBlock ? q.width - start : kBlock) / kRegister * kRegister;
        const int16_t* codes = q.codes + t * q.width + start;
        const int16_t* residuals = q.residuals + t * q.width + start;
        int32_t high = 0, low = 0;
        for (int64_t j = 0; j < values; ++j) {
          high += static_cast<int32_t>(fine[start + j]) * codes[j];
          low += static_cast<int32_t>(fine[start + j]) * residuals[j];
        }
        total += 256 * static_cast<int64_t>(high) + low;
      }
      to[t * kFineGroup + i] = similarity(total, items.scales[group.at[i]], q.scales[t]);
    }
  }
}

MESHFOLD_FOR_EACH_LEVEL(void, similarities_level, similarities,
                        (const Part& q, const FineItems& items, const Group& group, int16_t* space, float* to),
                        (q, items, group, space, to))

#if MESHFOLD_X86

// Sums for four items: of products of high bytes, of high and low bytes, and of low bytes.
struct Sums {
  __m512i high[4], mixed[4], low[4];
};

MESHFOLD_AVX512 inline void add(Sums& sums, int item, __m512i code, __m512i residual, __m512i of_codes,
                                __m512i of_residuals) {
  // Unsigned bytes: adding 128 flips one bit.
  const __m512i flipped = _mm512_set1_epi8(static_cast<char>(0x80));
  code = _mm512_xor_si512(code, flipped);
  residual = _mm512_xor_si512(residual, flipped);
  sums.high[item] = _mm512_dpbusd_epi32(sums.high[item], code, of_codes);
  sums.mixed[item] = _mm512_dpbusd_epi32(sums.mixed[item], code, of_residuals);
  sums.mixed[item] = _mm512_dpbusd_epi32(sums.mixed[item], residual, of_codes);
  sums.low[item] = _mm512_dpbusd_epi32(sums.low[item], residual, of_residuals);
}

// Similarities of four items, equal to similarity(): every sum is an integer below 2^53, exact in float64. off: the
// excess of the totals.
MESHFOLD_AVX512 inline __m128 similarities4(const Sums& sums, double off, __m128 scales, float query_scale) {
  const __m512i high = folded(sums.high[0], sums.high[1], sums.high[2], sums.high[3]);
  const __m512i mixed = folded(sums.mixed[0], sums.mixed[1], sums.mixed[2], sums.mixed[3]);
  const __m512i low = folded(sums.low[0], sums.low[1], sums.low[2], sums.low[3]);
  const __m512i all = across(high, mixed, low, low);
  const __m256d of_high = _mm256_cvtepi32_pd(_mm512_extracti32x4_epi32(all, 0));
  const __m256d of_mixed = _mm256_cvtepi32_pd(_mm512_extracti32x4_epi32(all, 1));
  const __m256d of_low = _mm256_cvtepi32_pd(_mm512_extracti32x4_epi32(all, 2));
  const __m256d upper = _mm256_add_pd(_mm256_mul_pd(of_high, _mm256_set1_pd(65536)),
                                      _mm256_mul_pd(of_mixed, _mm256_set1_pd(256)));
  const __m256d totals = _mm256_add_pd(upper, _mm256_sub_pd(of_low, _mm256_set1_pd(off)));
  const __m256d exact = _mm256_mul_pd(_mm256_mul_pd(totals, _mm256_cvtps_pd(scales)), _mm256_set1_pd(query_scale));
  return _mm256_cvtpd_ps(_mm256_max_pd(_mm256_min_pd(exact, _mm256_set1_pd(kLargest)), _mm256_set1_pd(-kLargest)));
}

MESHFOLD_AVX512 void in_bytes(const Part& q, const FineItems& items, const Group& group, float* to) {
  const int64_t d = items.dimension, whole = d / kBytes * kBytes;
  const __mmask64 rest = _bzhi_u64(~0ULL, static_cast<unsigned>(d - whole));
  for (int64_t first = 0; first < group.count; first += 4) {
    prefetch_ahead(items, group, first, 4);
    // Beyond the last item, the last item again.
    int64_t at[4];
    for (int64_t i = 0; i < 4; ++i) at[i] = group.at[first + i < group.count ? first + i : group.count - 1];
    for (int64_t t = 0; t < q.count; ++t) {
      const int8_t* const of_codes = q.bytes + 2 * t * q.padded;
      const int8_t* const of_residuals = of_codes + q.padded;
      Sums sums{};
      for (int64_t j = 0; j < whole; j += kBytes) {
        const __m512i high = _mm512_loadu_si512(of_codes + j), low = _mm512_loadu_si512(of_residuals + j);
        for (int i = 0; i < 4; ++i) {
          const int64_t start = at[i] * items.stride + j;
          add(sums, i, _mm512_loadu_si512(items.codes + start), _mm512_loadu_si512(items.residuals + start), high, low);
        }
      }
      if (whole < d) {
        const __m512i high = _mm512_loadu_si512(of_codes + whole), low = _mm512_loadu_si512(of_residuals + whole);
        for (int i = 0; i < 4; ++i) {
          const int64_t start = at[i] * items.stride + whole;
          add(sums, i, _mm512_maskz_loadu_epi8(rest, items.codes + start),
              _mm512_maskz_loadu_epi8(rest, items.residuals + start), high, low);
        }
      }
      const float* const scale = items.scales;
      const __m128 scales = _mm_setr_ps(scale[at[0]], scale[at[1]], scale[at[2]], scale[at[3]]);
      _mm_storeu_ps(to + t * kFineGroup + first,
                    similarities4(sums, static_cast<double>(q.byte_offsets[t]), scales, q.scales[t]));
    }
  }
}

#endif

}  // namespace

FineQueries::FineQueries(const int8_t* codes, const int8_t* residuals, const float* scales, int64_t count,
                         int64_t dimension)
    : width_((dimension + kRegister - 1) / kRegister * kRegister),
      padded_((dimension + kBytes - 1) / kBytes * kBytes),
      codes_(count * width_),
      residuals_(count * width_),
      bytes_(2 * count * padded_),
      offsets_(count),
      byte_offsets_(count),
      scales_(scales) {
  for (int64_t t = 0; t < count; ++t) {
    int64_t high = 0, low = 0;
    for (int64_t j = 0; j < dimension; ++j) {
      const int8_t code = codes[t * dimension + j], residual = residuals[t * dimension + j];
      codes_[t * width_ + j] = bytes_[2 * t * padded_ + j] = code;
      residuals_[t * width_ + j] = bytes_[(2 * t + 1) * padded_ + j] = residual;
      high += code;
      low += residual;
    }
    offsets_[t] = kRaised * (256 * high + low);
    // Both bytes of every item are raised.
    byte_offsets_[t] = kRaised * (65536 * high + 256 * (high + low) + low);
  }
}

// Items far apart load faster with many prefetches at once, items close together with prefetches between dots.
int64_t FineQueries::begin(const FineItems& items, const int64_t* at, int64_t left) {
  int64_t apart = 0;
  for (int64_t i = 1; i < left; ++i) apart += std::abs(at[i] - at[i - 1]) * items.stride > kApart;
  const int64_t ahead = 2 * apart > left ? std::max(kInOneGo / (2 * items.dimension), kFineAhead) : kFineAhead;
  prefetch_items(items, at, std::min(left, ahead));
  return ahead;
}

void FineQueries::run(int64_t first, int64_t last, const FineItems& items, const int64_t* at, int64_t left,
                      int64_t ahead, int16_t* space, float* to) const {
  const Part part{codes_.data() + first * width_,
                  residuals_.data() + first * width_,
                  bytes_.data() + 2 * first * padded_,
                  offsets_.data() + first,
                  byte_offsets_.data() + first,
                  scales_ + first,
                  last - first,
                  width_,
                  padded_};
  const Group group{at, left < kFineGroup ? left : kFineGroup, left, ahead};
#if MESHFOLD_X86
  if (isa() == Isa::avx512 && items.dimension <= kNarrow) return in_bytes(part, items, group, to);
#endif
  similarities_level(part, items, group, space, to);
}

}  // namespace meshfold
