// Similarities from 16-bit fine values, their totals in exact integers; kernels/rescore.py has the formula.
//
// A query's fine value is taken apart into code and residual: a product of 16 bits and 8 bits leaves int32 room for the
// sum of a block. An item's is raised by 128, so that whatever two bytes come have a value of 16 bits. Where there are
// dots of bytes, an item's is taken apart, too.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// Items in a group: their fine values are held while every query meets them.
constexpr int64_t kFineGroup = 16;

struct FineItems {
  const int8_t* codes;        // [N, D]
  const int8_t* residuals;    // [N, D]
  const float* units;         // [N]
  int64_t dimension;
};

// Some query vectors, as the dots want them.
class FineQueries {
 public:
  // codes, residuals: [T, D], units: [T], borrowed.
  FineQueries(const int8_t* codes, const int8_t* residuals, const float* units, int64_t count, int64_t dimension);

  // Similarities of the queries from first to last with at most kFineGroup items: to: [last - first, kFineGroup].
  // next: the items of the next group, to be in cache by then. space: room() values.
  void run(int64_t first, int64_t last, const FineItems& items, const int64_t* at, int64_t count, const int64_t* next,
           int64_t next_count, int16_t* space, float* to) const;

  int64_t room() const { return kFineGroup * width_; }

 private:
  int64_t width_;                       // D, rounded up to whole registers of 16-bit values
  int64_t padded_;                      // D, rounded up to whole registers of bytes
  std::vector<int16_t> codes_;          // [T, width]
  std::vector<int16_t> residuals_;      // [T, width]
  std::vector<int8_t> bytes_;           // [T, 2, padded] - codes, then residuals
  std::vector<int64_t> offsets_;        // [T] - what a total is too large by
  std::vector<int64_t> byte_offsets_;   // [T] - the same of totals from dots of bytes
  const float* units_;
};

}  // namespace meshfold
