// Coarse scores of items against a query: four bits a dimension; format and formula in kernels/search/coarse.py.
#pragma once

#include <cstdint>
#include <vector>

#include "native/prefetch.h"

namespace meshfold {

// Bytes of an item: two dimensions in each.
constexpr int64_t coarse_width(int64_t dimension) { return (dimension + 1) / 2; }

// Most queries scored in one pass over items.
constexpr int kCoarseQueries = 4;

// Items prefetched together.
constexpr int64_t kPrefetchItems = 16;

// Prefetches kPrefetchItems items from position `at` on. width: bytes of a row.
inline void prefetch_coarse(const uint8_t* coarse, const float* scales, int64_t width, int64_t at) {
  const uint8_t* const first = coarse + at * width;
  for (int64_t j = 0; j < kPrefetchItems * width; j += 64) prefetch_near(first + j);
  prefetch_near(scales + at);
}

// The codes of a query in the layout of coarse dots.
class CoarseQuery {
 public:
  // Codes for the low halves of bytes, and for the high halves; padded with zeros to whole registers.
  struct Halves {
    const int8_t* low;
    const int8_t* high;
    int64_t bias;     // excess of a total from unsigned items
  };

  CoarseQuery() = default;
  CoarseQuery(const int8_t* codes, int64_t dimension);

  // scores[i] of the items at positions at[i] of the whole table.
  void gather(const uint8_t* coarse, const float* scales, const int32_t* at, int64_t n, float* scores) const;

 private:
  Halves halves() const { return {codes_.data(), codes_.data() + codes_.size() / 2, bias_}; }
  friend void coarse_scores(const CoarseQuery* const*, int, const uint8_t*, const float*, int64_t, const int64_t*,
                            float*, int64_t);

  int64_t width_ = 0;
  bool narrow_ = true;          // whether every total fits int32
  int64_t bias_ = 0;
  std::vector<int8_t> codes_;   // those of low halves, then those of high halves
};

// scores[q * stride + i] of the n consecutive items from `coarse` on, for up to kCoarseQueries queries. ahead: null, or
// for each kPrefetchItems of the items the offset of the items to prefetch meanwhile.
void coarse_scores(const CoarseQuery* const* queries, int count, const uint8_t* coarse, const float* scales, int64_t n,
                   const int64_t* ahead, float* scores, int64_t stride);

}  // namespace meshfold
