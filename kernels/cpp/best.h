// The best so far of many scored items: by score, ties to the smaller row; order as in kernels/ordered.py.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

namespace meshfold {

// An integer that orders as the score does; 0.0 and -0.0 are one. Not for NaN.
inline int32_t ordered(float score) {
  const int32_t bits = std::bit_cast<int32_t>(score + 0.0f);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}

// Keeps `depth` of what it is offered. What it keeps in the end does not depend on the order of offers. Rows are only
// read to break ties: they lie as far apart as the items, and reading them costs more than comparing scores.
class Best {
 public:
  // rows: of the items by position, borrowed.
  void reset(int64_t depth, const int32_t* rows);

  // A lower score is not among the best, for sure.
  float threshold() const { return threshold_; }

  // Takes an item in whose score reaches the threshold.
  void offer(float score, int32_t position) {
    if (size_ == capacity_) shrink();
    // The sign bit flipped, so that unsigned integers order as signed ones do.
    const uint64_t high = static_cast<uint32_t>(ordered(score)) ^ 0x80000000u;
    entries_[size_++] = high << 32 | static_cast<uint32_t>(position);
  }

  // Takes over what another holds.
  void take(const Best& other);

  // Moves out what it keeps, in no order; it holds nothing afterwards.
  void release(std::vector<int64_t>& positions);

  // Writes the best first, returns how many there are; it holds nothing afterwards.
  int64_t finish(int64_t* positions);

 private:
  void shrink();
  void cut();
  bool before(uint64_t a, uint64_t b) const;

  int64_t depth_ = 0;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
  float threshold_ = 0;
  const int32_t* rows_ = nullptr;
  std::vector<uint64_t> entries_;   // score in the high half, position in the low
};

}  // namespace meshfold
