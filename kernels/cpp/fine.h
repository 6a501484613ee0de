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
// How far ahead items are asked for that lie close together.
constexpr int64_t kFineAhead = 64;

struct FineItems {
  const int8_t* codes;        // [N, D]
  const int8_t* residuals;    // [N, D]
  const float* units;         // [N]
  int64_t dimension;
  int64_t stride;             // bytes from an item to the next, in codes as in residuals
};

// Some query vectors, as the dots want them.
class FineQueries {
 public:
  // codes, residuals: [T, D], units: [T], borrowed.
  FineQueries(const int8_t* codes, const int8_t* residuals, const float* units, int64_t count, int64_t dimension);

  // Asks for the first of the items at `at`, before a run; returns how far ahead runs are to ask for those further on.
  static int64_t begin(const FineItems& items, const int64_t* at, int64_t left);

  // Similarities of the queries from first to last with the first kFineGroup of the items that are left at `at`:
  // to: [last - first, kFineGroup]. space: room() values.
  void run(int64_t first, int64_t last, const FineItems& items, const int64_t* at, int64_t left, int64_t ahead,
           int16_t* space, float* to) const;

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
