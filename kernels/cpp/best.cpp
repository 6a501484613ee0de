#include "best.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "order.h"
#include "select.h"

namespace meshfold {
namespace {

// Steps of equal width between the lowest score and the highest.
constexpr int kStepBits = 10;
// Room beyond the depth: how many are taken in before the worst are thrown out.
constexpr int64_t kLeastSpare = 256;
// Items that are taken in at one threshold: fewer than there is room for after the worst were thrown out.
constexpr int64_t kAtOnce = 128;

}  // namespace

// The step in which the last of the best `depth` lies, found by counting once; scores as integers in their order.
struct Best::Edge {
  int32_t least;        // where it begins
  int64_t beyond;       // where the next one does
  int64_t above;        // scores in the steps above, fewer than depth
  int64_t inside;
};

Best::Edge Best::edge() const {
  const ScoreSpan span = span_of(scores_.data(), size_);
  const uint32_t lowest = static_cast<uint32_t>(span.least), range = static_cast<uint32_t>(span.most) - lowest;
  const int shift = std::max(static_cast<int>(std::bit_width(range)) - kStepBits, 0);
  std::array<int32_t, 1 << kStepBits> counts{};
  for (int64_t i = 0; i < size_; ++i) ++counts[(static_cast<uint32_t>(ordered(scores_[i])) - lowest) >> shift];
  int64_t above = 0;
  uint32_t step = range >> shift;
  while (above + counts[step] < depth_) above += counts[step--];
  const int64_t least = span.least + (int64_t{step} << shift);
  return {static_cast<int32_t>(least), least + (int64_t{1} << shift), above, counts[step]};
}

void Best::reset(int64_t depth, const int32_t* rows) {
  depth_ = depth;
  rows_ = rows;
  size_ = 0;
  // No score reaches NaN.
  threshold_ = depth > 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  capacity_ = depth + std::max<int64_t>(depth, kLeastSpare);
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
  offer(n, [&](int64_t i, int64_t count, float* to_scores, int32_t* to_positions) {
    return take_listed(scores + i, count, threshold_, at + i, to_scores, to_positions);
  });
}

void Best::take(const Best& other) { offer(other.scores_.data(), other.size_, other.positions_.data()); }

// Throws out what is below the step in which the last lies. Where that leaves too many, the exact last is found.
void Best::shrink() {
  if (size_ <= depth_) return;
  const Edge edge = this->edge();
  if (edge.above + edge.inside - depth_ > (capacity_ - depth_) / 4) return cut();
  threshold_ = score_of(edge.least);
  size_ = keep_at_least(scores_.data(), positions_.data(), size_, threshold_);
}

// Keeps exactly the best `depth`.
void Best::cut() {
  if (size_ <= depth_) return;
  const Edge edge = this->edge();
  size_ = keep_at_least(scores_.data(), positions_.data(), size_, score_of(edge.least));
  std::vector<int32_t> inside;
  inside.reserve(edge.inside);
  for (int64_t i = 0; i < size_; ++i) {
    if (ordered(scores_[i]) < edge.beyond) inside.push_back(static_cast<int32_t>(i));
  }
  const auto before = [this](int32_t a, int32_t b) {
    return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : rows_[positions_[a]] < rows_[positions_[b]];
  };
  const int64_t wanted = depth_ - edge.above;
  std::nth_element(inside.begin(), inside.begin() + wanted - 1, inside.end(), before);
  threshold_ = scores_[inside[wanted - 1]];
  // Those that are not kept, from the last place on, make room for those behind.
  std::sort(inside.begin() + wanted, inside.end());
  auto out = inside.begin() + wanted;
  int64_t kept = out == inside.end() ? size_ : *out;
  for (int64_t i = kept; i < size_; ++i) {
    if (out != inside.end() && *out == i) {
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
  put_in_order(entries, depth_, [this](uint32_t place) { return rows_[positions_[place]]; });
  for (int64_t i = 0; i < size_; ++i) positions[i] = positions_[static_cast<uint32_t>(entries[i])];
  const int64_t found = size_;
  size_ = 0;
  return found;
}

}  // namespace meshfold
