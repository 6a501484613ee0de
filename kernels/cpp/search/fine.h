// Similarities from 16-bit fine values, with exact integer totals; formula in kernels/search/rescore.py.
//
// The fine values of a query are split into code and residual, because int32 holds a block's sum of products of 16 and
// 8 bits. Those of an item are raised by 128, so that any two bytes give 16 bits. Dots of bytes split the item's as
// well.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// Items of a group, which every query scores before the next group.
constexpr int64_t kFineGroup = 16;
// Prefetch distance in items that are close together.
constexpr int64_t kFineAhead = 64;

struct FineItems {
  const int8_t* codes;        // [N, D]
  const int8_t* residuals;    // [N, D]
  const float* scales;         // [N]
  int64_t dimension;
  int64_t stride;             // bytes from an item to the next, in codes as in residuals
};

// Query vectors in the layout of the dots.
class FineQueries {
 public:
  // codes, residuals: [T, D], scales: [T], borrowed.
  FineQueries(const int8_t* codes, const int8_t* residuals, const float* scales, int64_t count, int64_t dimension);

  // Prefetches the first of the items at `at`; returns the prefetch distance for run().
  static int64_t begin(const FineItems& items, const int64_t* at, int64_t left);

  // Similarities of queries first to last - 1 to the first kFineGroup of the `left` items at `at`. to: [last - first,
  // kFineGroup]. ahead: prefetch distance. space: room() values.
  void run(int64_t first, int64_t last, const FineItems& items, const int64_t* at, int64_t left, int64_t ahead,
           int16_t* space, float* to) const;

  int64_t room() const { return kFineGroup * width_; }

 private:
  int64_t width_;                       // D, rounded up to whole registers of 16-bit values
  int64_t padded_;                      // D, rounded up to whole registers of bytes
  std::vector<int16_t> codes_;          // [T, width]
  std::vector<int16_t> residuals_;      // [T, width]
  std::vector<int8_t> bytes_;           // [T, 2, padded] - codes, then residuals
  std::vector<int64_t> offsets_;        // [T] - the excess of a total
  std::vector<int64_t> byte_offsets_;   // [T] - the excess of a total from dots of bytes
  const float* scales_;
};

}  // namespace meshfold
