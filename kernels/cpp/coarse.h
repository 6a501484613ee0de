// Coarse scores of items against a query: four bits a dimension; kernels/coarse.py has format and formula.
#pragma once

#include <cstdint>
#include <vector>

#include "ahead.h"

namespace meshfold {

// Bytes of an item: two dimensions in each.
constexpr int64_t coarse_width(int64_t dimension) { return (dimension + 1) / 2; }

// Queries that one reading of items serves.
constexpr int kCoarseQueries = 4;

// Items that are asked for at once.
constexpr int64_t kAskedAtOnce = 16;

// Asks for so many from position `at` on, of a table of rows of `width` bytes.
inline void ask_for_coarse(const uint8_t* coarse, const float* units, int64_t width, int64_t at) {
  const uint8_t* const first = coarse + at * width;
  for (int64_t j = 0; j < kAskedAtOnce * width; j += 64) ask_soon(first + j);
  ask_soon(units + at);
}

// A query's codes as coarse dots want them.
class CoarseQuery {
 public:
  // Codes for the low halves of bytes, and for the high halves; padded with zeros to whole registers.
  struct Halves {
    const int8_t* low;
    const int8_t* high;
    int64_t bias;     // what items without a sign add to a total
  };

  CoarseQuery() = default;
  CoarseQuery(const int8_t* codes, int64_t dimension);

  // scores[i] of the items at positions at[i] of the whole table.
  void gather(const uint8_t* coarse, const float* units, const int32_t* at, int64_t n, float* scores) const;

 private:
  Halves halves() const { return {codes_.data(), codes_.data() + codes_.size() / 2, bias_}; }
  friend void coarse_scores(const CoarseQuery* const*, int, const uint8_t*, const float*, int64_t, const int64_t*,
                            float*, int64_t);

  int64_t width_ = 0;
  bool narrow_ = true;          // every total fits int32
  int64_t bias_ = 0;
  std::vector<int8_t> codes_;   // those of low halves, then those of high halves
};

// scores[q * stride + i] of the n items that lie back to back from `coarse` on, for up to kCoarseQueries queries.
// ahead: null, or for each kAskedAtOnce of the items where others begin that are asked for meanwhile, counted from the
// first.
void coarse_scores(const CoarseQuery* const* queries, int count, const uint8_t* coarse, const float* units, int64_t n,
                   const int64_t* ahead, float* scores, int64_t stride);

}  // namespace meshfold
