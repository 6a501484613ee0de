// Products of layers_int8: exact totals of integers, then floats of them; formula in kernels/layers/layers_int8.py.
#pragma once

#include <cstdint>

namespace meshfold {

// Outputs of a panel, rows of a group.
constexpr int64_t kPanel = 32, kGroup = 12;

// One part of the inputs of a layer, for a group of rows and a panel of outputs.
//
// x: kGroup rows of `words`, `stride` apart. fine: whether a word is one integer. weights: [words][width], width 16 or
// kPanel. starts: [width] - initial values of the sums; 0 for fine parts. row_scales: [kGroup]. output_scales: [width].
// out: [kGroup][width], rows `out_stride` apart: set by the first part, others add to it. bias: [width] for the last
// part, else null.
struct PartProduct {
  const int32_t* x;
  int64_t stride, words;
  bool fine;
  const int32_t* weights;
  const int32_t* starts;
  const float* row_scales;
  const float* output_scales;
  const float* bias;
  bool first, relu;
  int64_t width;
  float* out;
  int64_t out_stride;
};

// Sums are exact in any order. The float operations after them are single IEEE operations, multiply and add apart, so
// that every level gives the same bytes.
void product(const PartProduct& term);

}  // namespace meshfold
