#include "search/best.h"

#include <algorithm>
#include <limits>

#include "search/order.h"
#include "search/select.h"

namespace meshfold {
namespace {

// Least number of places beyond the limit: items to take in before the worst are dropped.
constexpr int64_t kLeastSpare = 256;
// Items to take in at one threshold: fewer than the free places after the worst were dropped.
constexpr int64_t kAtOnce = 128;

// The lowest of the best `limit` scores; scores as integers in their order.
struct Edge {
  int32_t least;        // at least `limit` scores reach it
  int64_t beyond;       // fewer reach it
  int64_t reached;      // scores that reach `least`
  int64_t above;        // scores that reach `beyond`
};

// Halves the range until at most limit + spare scores reach `least`, or it holds one score.
Edge edge_of(const float* scores, int64_t n, int64_t limit, int64_t spare) {
  const ScoreSpan span = span_of(scores, n);
  Edge edge{span.least, int64_t{span.most} + 1, n, 0};
  for (bool by_value = true; edge.reached - limit > spare && edge.beyond - edge.least > 1; by_value = !by_value) {
    // Alternates between the middle of the values, for scores of both signs, and of their order, for outliers.
    const float highest = score_of(static_cast<int32_t>(edge.beyond - 1));
    const int64_t middle =
        by_value ? ordered(score_of(edge.least) / 2 + highest / 2) : (edge.least + edge.beyond) / 2;
    const int64_t at = std::clamp<int64_t>(middle, int64_t{edge.least} + 1, edge.beyond - 1);
    const int64_t reached = count_at_least(scores, n, score_of(static_cast<int32_t>(at)));
    if (reached >= limit) {
      edge.least = static_cast<int32_t>(at);
      edge.reached = reached;
    } else {
      edge.beyond = at;
      edge.above = reached;
    }
  }
  return edge;
}

}  // namespace

void Best::reset(int64_t limit, const int32_t* rows) {
  limit_ = limit;
  rows_ = rows;
  size_ = 0;
  // No score reaches NaN.
  threshold_ = limit > 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  capacity_ = limit + std::max<int64_t>(limit, kLeastSpare);
  if (static_cast<int64_t>(scores_.size()) < capacity_ + kTakenBeyond) {
    scores_.resize(capacity_ + kTakenBeyond);
    positions_.resize(capacity_ + kTakenBeyond);
  }
}

template <class Take>
void Best::offer(int64_t n, Take take) {
  for (int64_t i = 0; i < n; i += kAtOnce) {
    const int64_t count = std::min(kAtOnce, n - i);
    if (size_ + count > capacity_) shrink();
    size_ += take(i, count, scores_.data() + size_, positions_.data() + size_);
  }
}

void Best::offer(const float* scores, int64_t n, int64_t first, const uint64_t* allowed) {
  offer(n, [&](int64_t i, int64_t count, float* to_scores, int32_t* to_positions) {
    return take_run(scores + i, count, threshold_, first + i, allowed, to_scores, to_positions);
  });
}

void Best::offer(const float* scores, int64_t n, const int32_t* at) {
  // Most of many items are dropped before they are taken in.
  if (limit_ > 0 && n > capacity_) {
    threshold_ = std::max(threshold_, score_of(edge_of(scores, n, limit_, 0).least));
  }
  offer(n, [&](int64_t i, int64_t count, float* to_scores, int32_t* to_positions) {
    return take_listed(scores + i, count, threshold_, at + i, to_scores, to_positions);
  });
}

void Best::take(const Best& other) { offer(other.scores_.data(), other.size_, other.positions_.data()); }

// Drops the worst; exactly, if an estimate frees less than three quarters of the spare places.
void Best::shrink() {
  if (size_ <= limit_) return;
  const int64_t spare = (capacity_ - limit_) / 4;
  const Edge edge = edge_of(scores_.data(), size_, limit_, spare);
  if (edge.reached - limit_ > spare) return cut();
  threshold_ = score_of(edge.least);
  size_ = keep_at_least(scores_.data(), positions_.data(), size_, threshold_);
}

// Keeps exactly the best `limit`.
void Best::cut() {
  if (size_ <= limit_) return;
  const Edge edge = edge_of(scores_.data(), size_, limit_, 0);
  threshold_ = score_of(edge.least);
  size_ = keep_at_least(scores_.data(), positions_.data(), size_, threshold_);
  if (size_ == limit_) return;
  // More items share the lowest score than are kept.
  std::vector<int32_t> last;
  last.reserve(edge.reached - edge.above);
  for (int64_t i = 0; i < size_; ++i) {
    if (ordered(scores_[i]) == edge.least) last.push_back(static_cast<int32_t>(i));
  }
  const int64_t wanted = limit_ - edge.above;
  std::nth_element(last.begin(), last.begin() + wanted - 1, last.end(),
                   [this](int32_t a, int32_t b) { return rows_[positions_[a]] < rows_[positions_[b]]; });
  // Closes the gaps of the dropped ones.
  std::sort(last.begin() + wanted, last.end());
  auto out = last.begin() + wanted;
  int64_t kept = *out;
  for (int64_t i = kept; i < size_; ++i) {
    if (out != last.end() && *out == i) {
      ++out;
      continue;
    }
    scores_[kept] = scores_[i];
    positions_[kept++] = positions_[i];
  }
  size_ = kept;
}

void Best::release(std::vector<int64_t>& positions) {
  cut();
  positions.assign(positions_.begin(), positions_.begin() + size_);
  size_ = 0;
}

int64_t Best::finish(int64_t* positions) {
  cut();
  std::vector<uint64_t> entries(size_);
  for (int64_t i = 0; i < size_; ++i) entries[i] = entry_of(scores_[i], static_cast<uint32_t>(i));
  put_in_order(entries, limit_, [this](uint32_t place) { return rows_[positions_[place]]; });
  for (int64_t i = 0; i < size_; ++i) positions[i] = positions_[static_cast<uint32_t>(entries[i])];
  const int64_t found = size_;
  size_ = 0;
  return found;
}

}  // namespace meshfold
