// Scores of centroids against a query: float32(code_q . code_c) * scale_c, with an exact integer total; the first term
// of kernels/search/probe.py.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// A query's codes as each instruction set reads them.
class DotQuery {
 public:
  DotQuery() = default;
  DotQuery(const int8_t* codes, int64_t dimension);

  // codes: [n, D], rows back to back. scales: [n] -> scores: [n]
  void run(const int8_t* codes, const float* scales, int64_t n, float* scores) const;

 private:
  int64_t dimension_ = 0;
  int32_t bias_ = 0;             // 128 times the sum of the codes; AVX-512 adds 128 to each centroid's code
  std::vector<int8_t> codes_;    // padded with zeros to whole registers
  std::vector<int16_t> wide_;
};

}  // namespace meshfold
