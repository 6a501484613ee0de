// Scores of items against a query: float32(code_q . code_x) * unit_x, the total an exact integer.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// A query's codes as the dots want them.
class DotQuery {
 public:
  DotQuery() = default;
  DotQuery(const int8_t* codes, int64_t dimension);

  // scores[i] of the n items that lie back to back from `codes` on. Nothing is asked for ahead: processors see that
  // rows follow one another, and asking them made it slower.
  void run(const int8_t* codes, const float* units, int64_t n, float* scores) const;

  // scores[i] of the items at positions at[i] of the whole table.
  void gather(const int8_t* codes, const float* units, const int32_t* at, int64_t n, float* scores) const;

 private:
  int64_t dimension_ = 0;
  int32_t bias_ = 0;             // 128 times the sum of the codes: what unsigned items add to a total
  std::vector<int8_t> codes_;    // padded with zeros to whole registers
  std::vector<int16_t> wide_;
};

// Indices of the scores that are at least `threshold`, in order; returns how many. indices: room for n.
int64_t at_least(const float* scores, int64_t n, float threshold, int32_t* indices);

// The positions of the bits of a word, `base` that of its first; returns how many. at: room for 64.
int64_t positions_of(uint64_t word, int32_t base, int32_t* at);

}  // namespace meshfold
