// The best of many scored items: by score, ties to the smaller row; order as in kernels/search/ordered.py.
#pragma once

#include <cstdint>
#include <vector>

namespace meshfold {

// Keeps the best `limit` of the items offered, whatever the order of offers. Rows are only read to break ties: they lie
// as far apart as the items, and reading them costs more than comparing scores.
class Best {
 public:
  // rows: by position, borrowed.
  void reset(int64_t limit, const int32_t* rows);

  // Offers n items at consecutive positions from `first` on. allowed: a bit by position for each item that may be
  // taken, and a word beyond the last; null for all. Scores are not NaN.
  void offer(const float* scores, int64_t n, int64_t first, const uint64_t* allowed);

  // The same of items at positions at[i].
  void offer(const float* scores, int64_t n, const int32_t* at);

  // Offers the items of another.
  void take(const Best& other);

  // Writes the positions of the best in no order; it is empty afterwards.
  void release(std::vector<int64_t>& positions);

  // Writes the positions, best first, and returns their number; it is empty afterwards.
  int64_t finish(int64_t* positions);

 private:
  template <class Take>
  void offer(int64_t n, Take take);
  void shrink();
  void cut();

  int64_t limit_ = 0;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
  float threshold_ = 0;               // lower scores are not among the best
  const int32_t* rows_ = nullptr;
  std::vector<float> scores_;
  std::vector<int32_t> positions_;
};

}  // namespace meshfold
