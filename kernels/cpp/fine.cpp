#include "fine.h"

#include <limits>

#include "isa.h"
#include "leaf.h"

namespace meshfold {
namespace {

// Values whose products are summed in int32: 256 * 2^15 * 2^7 = 2^30.
constexpr int64_t kBlock = 256;
// Rows are padded with zeros to whole registers of 16-bit values.
constexpr int64_t kRegister = 32;
constexpr int32_t kRaised = 128;

struct Part {
  const int16_t* codes;
  const int16_t* residuals;
  const int64_t* offsets;
  const float* units;
  int64_t count;
  int64_t width;
};

struct Group {
  const int64_t* at;
  int64_t count;
  const int64_t* next;
  int64_t next_count;
};

MESHFOLD_INLINE void similarities(const Part& q, const FineItems& items, const Group& group, int16_t* space,
                                  float* to) {
  const int64_t d = items.dimension;
  for (int64_t i = 0; i < group.next_count; ++i) {
    for (int64_t j = 0; j < d; j += 64) {
      __builtin_prefetch(items.codes + group.next[i] * d + j);
      __builtin_prefetch(items.residuals + group.next[i] * d + j);
    }
    __builtin_prefetch(items.units + group.next[i]);
  }
  for (int64_t i = 0; i < group.count; ++i) {
    const int8_t* codes = items.codes + group.at[i] * d;
    const int8_t* residuals = items.residuals + group.at[i] * d;
    int16_t* fine = space + i * q.width;
    for (int64_t j = 0; j < d; ++j) {
      fine[j] = static_cast<int16_t>(256 * static_cast<int32_t>(codes[j]) + residuals[j] + kRaised);
    }
  }
  constexpr double kLargest = 340282346638528859811704183484516925440.0;
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
      const double exact = static_cast<double>(total) * items.units[group.at[i]] * q.units[t];
      to[t * kFineGroup + i] =
          static_cast<float>(exact > kLargest ? kLargest : exact < -kLargest ? -kLargest : exact);
    }
  }
}

void plain(const Part& q, const FineItems& items, const Group& group, int16_t* space, float* to) {
  similarities(q, items, group, space, to);
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void avx2(const Part& q, const FineItems& items, const Group& group, int16_t* space, float* to) {
  similarities(q, items, group, space, to);
}

MESHFOLD_AVX512 void avx512(const Part& q, const FineItems& items, const Group& group, int16_t* space, float* to) {
  similarities(q, items, group, space, to);
}

#endif

}  // namespace

FineQueries::FineQueries(const int8_t* codes, const int8_t* residuals, const float* units, int64_t count,
                         int64_t dimension)
    : width_((dimension + kRegister - 1) / kRegister * kRegister),
      codes_(count * width_),
      residuals_(count * width_),
      offsets_(count),
      units_(units) {
  for (int64_t t = 0; t < count; ++t) {
    int64_t sum = 0;
    for (int64_t j = 0; j < dimension; ++j) {
      codes_[t * width_ + j] = codes[t * dimension + j];
      residuals_[t * width_ + j] = residuals[t * dimension + j];
      sum += 256 * static_cast<int64_t>(codes[t * dimension + j]) + residuals[t * dimension + j];
    }
    offsets_[t] = kRaised * sum;
  }
}

void FineQueries::run(int64_t first, int64_t last, const FineItems& items, const int64_t* at, int64_t count,
                      const int64_t* next, int64_t next_count, int16_t* space, float* to) const {
  const Part part{codes_.data() + first * width_, residuals_.data() + first * width_, offsets_.data() + first,
                  units_ + first,                 last - first,                       width_};
  const Group group{at, count, next, next_count};
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return avx512(part, items, group, space, to);
  if (isa() == Isa::avx2) return avx2(part, items, group, space, to);
#endif
  plain(part, items, group, space, to);
}

}  // namespace meshfold
