// Coarse scores of items against a query: four bits a dimension; kernels/coarse.py has format and formula.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// Bytes of an item: two dimensions in each.
constexpr int64_t coarse_width(int64_t dimension) { return (dimension + 1) / 2; }

// A query's codes as coarse dots want them.
class CoarseQuery {
 public:
  CoarseQuery() = default;
  CoarseQuery(const int8_t* codes, int64_t dimension);

  // scores[i] of the n items that lie back to back from `coarse` on. Nothing is asked for ahead: processors see that
  // rows follow one another, and asking them makes it slower.
  void run(const uint8_t* coarse, const float* units, int64_t n, float* scores) const;

  // scores[i] of the items at positions at[i] of the whole table.
  void gather(const uint8_t* coarse, const float* units, const int32_t* at, int64_t n, float* scores) const;

 private:
  int64_t width_ = 0;
  bool narrow_ = true;          // every total fits int32
  int64_t bias_ = 0;            // what unsigned items add to a total
  std::vector<int8_t> codes_;   // those of low halves, then those of high halves, both padded to whole registers
};

}  // namespace meshfold
