// Scores of items against a query: float32(code_q . code_x) * unit_x, the total an exact integer.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// The codes of a query in the layout of dots.
class DotQuery {
 public:
  DotQuery() = default;
  DotQuery(const int8_t* codes, int64_t dimension);

  // scores[i] of the n consecutive items from `codes` on.
  void run(const int8_t* codes, const float* scales, int64_t n, float* scores) const;

 private:
  int64_t dimension_ = 0;
  int32_t bias_ = 0;             // 128 times the sum of the codes: the excess of a total from unsigned items
  std::vector<int8_t> codes_;    // padded with zeros to whole registers
  std::vector<int16_t> wide_;
};

}  // namespace meshfold
