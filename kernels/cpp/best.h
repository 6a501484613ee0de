// The best so far of many scored items: by score, ties to the smaller row; order as in kernels/ordered.py.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// Keeps `depth` of what it is offered. What it keeps in the end does not depend on the order of offers. Rows are only
// read to break ties: they lie as far apart as the items, and reading them costs more than comparing scores.
class Best {
 public:
  // rows: of the items by position, borrowed.
  void reset(int64_t depth, const int32_t* rows);

  // Takes in what may be among the best of n items that lie back to back from position `first` on. allowed: bits by
  // position of those that may be taken, with a word beyond the last; null for all. Scores are not NaN.
  void offer(const float* scores, int64_t n, int64_t first, const uint64_t* allowed);

  // The same of items at positions at[i].
  void offer(const float* scores, int64_t n, const int32_t* at);

  // Takes over what another holds.
  void take(const Best& other);

  // Moves out what it keeps, in no order; it holds nothing afterwards.
  void release(std::vector<int64_t>& positions);

  // Writes the best first, returns how many there are; it holds nothing afterwards.
  int64_t finish(int64_t* positions);

 private:
  template <class Take>
  void offer(int64_t n, Take take);
  void shrink();
  void cut();

  int64_t depth_ = 0;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
  float threshold_ = 0;               // a lower score is not among the best, for sure
  const int32_t* rows_ = nullptr;
  std::vector<float> scores_;
  std::vector<int32_t> positions_;
};

}  // namespace meshfold
