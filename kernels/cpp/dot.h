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

  // scores[i] of the n items that lie back to back from `codes` on.
  void run(const int8_t* codes, const float* units, int64_t n, float* scores) const;

 private:
  int64_t dimension_ = 0;
  int32_t bias_ = 0;             // 128 times the sum of the codes: what unsigned items add to a total
  std::vector<int8_t> codes_;    // padded with zeros to whole registers
  std::vector<int16_t> wide_;
};

}  // namespace meshfold
