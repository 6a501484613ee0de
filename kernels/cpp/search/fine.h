// Similarities from 16-bit fine values, with exact integer totals; formula in kernels/search/rescore.py.
//
// A fine value is 256 * code + residual. A query's fine values are used as code and residual apart, so that a product
// has 24 bits and a block's sum fits into int32. An item's fine values are joined and raised by 128, so that every pair
// of bytes is in the range of int16; the excess that this adds to a total is subtracted (offsets). Where VNNI multiplies
// bytes, code and residual of the item stay apart too, and both are raised by 128 to be unsigned (byte_offsets).
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// Items in a group. All queries score a group before the next group is loaded.
constexpr int64_t kFineGroup = 16;
// Prefetch distance, in items, where items are close together in memory.
constexpr int64_t kFineAhead = 64;

struct FineItems {
  const int8_t* codes;        // [N, D]
  const int8_t* residuals;    // [N, D]
  const float* scales;         // [N]
  int64_t dimension;
  int64_t stride;             // bytes from an item to the next, in codes as in residuals
};

// Query vectors in the layout of the dot products.
class FineQueries {
 public:
  // codes, residuals: [T, D], scales: [T], borrowed.
  FineQueries(const int8_t* codes, const int8_t* residuals, const float* scales, int64_t count, int64_t dimension);

  // Prefetches the first of the items at `at`; returns the prefetch distance for run().
  static int64_t begin(const FineItems& items, const int64_t* at, int64_t left);

  // Similarities of queries first to last - 1 to the first kFineGroup of the `left` items whose positions are at `at`.
  // to: [last - first, kFineGroup]. ahead: prefetch distance from begin(). space: scratch memory of room() values.
  void run(int64_t first, int64_t last, const FineItems& items, const int64_t* at, int64_t left, int64_t ahead,
           int16_t* space, float* to) const;

  int64_t room() const { return kFineGroup * width_; }

 private:
  int64_t width_;                       // D, rounded up to whole registers of 16-bit values
  int64_t padded_;                      // D, rounded up to whole registers of bytes
  std::vector<int16_t> codes_;          // [T, width]
  std::vector<int16_t> residuals_;      // [T, width]
  std::vector<int8_t> bytes_;           // [T, 2, padded] - codes, then residuals
  std::vector<int64_t> offsets_;        // [T] - excess of a total by raised fine values
  std::vector<int64_t> byte_offsets_;   // [T] - excess of a total by raised bytes
  const float* scales_;
};

}  // namespace meshfold
