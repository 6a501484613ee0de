#include "best.h"

#include <algorithm>
#include <array>

#include "radix.h"
#include "select.h"

namespace meshfold {
namespace {

// Steps of equal width between the lowest score and the highest.
constexpr int kStepBits = 10;
// Room beyond the depth: how many are taken in before the worst are thrown out.
constexpr int64_t kLeastSpare = 256;
// Below so many, comparing is faster than counting digits.
constexpr int64_t kFew = 256;

uint32_t high(uint64_t entry) { return static_cast<uint32_t>(entry >> 32); }

float score_of(uint32_t flipped) {
  const int32_t order = static_cast<int32_t>(flipped ^ 0x80000000u);
  return std::bit_cast<float>(order < 0 ? order ^ 0x7FFFFFFF : order);
}

// The step in which the last of the best `depth` lies, found by counting once.
struct Edge {
  uint32_t least;       // where it begins
  uint64_t beyond;      // where the next one does
  int64_t above;        // entries in the steps above, fewer than depth
  int64_t inside;
};

Edge edge_of(const uint64_t* entries, int64_t n, int64_t depth) {
  const Span64 span = span_of(entries, n);
  const uint32_t lowest = high(span.least), range = high(span.most) - lowest;
  const int shift = std::max(static_cast<int>(std::bit_width(range)) - kStepBits, 0);
  std::array<int32_t, 1 << kStepBits> counts{};
  for (int64_t i = 0; i < n; ++i) ++counts[(high(entries[i]) - lowest) >> shift];
  int64_t above = 0;
  uint32_t step = range >> shift;
  while (above + counts[step] < depth) above += counts[step--];
  const uint64_t least = lowest + (uint64_t{step} << shift);
  return {static_cast<uint32_t>(least), least + (uint64_t{1} << shift), above, counts[step]};
}

}  // namespace

void Best::reset(int64_t depth, const int32_t* rows) {
  depth_ = depth;
  rows_ = rows;
  size_ = 0;
  // No score reaches NaN.
  threshold_ = depth > 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  capacity_ = depth + std::max<int64_t>(depth, kLeastSpare);
  if (static_cast<int64_t>(entries_.size()) < capacity_) entries_.resize(capacity_);
}

bool Best::before(uint64_t a, uint64_t b) const {
  if (high(a) != high(b)) return high(a) > high(b);
  return rows_[static_cast<uint32_t>(a)] < rows_[static_cast<uint32_t>(b)];
}

// Throws out what is below the step in which the last lies. Where that leaves too many, the exact last is found.
void Best::shrink() {
  if (size_ <= depth_) return;
  const Edge edge = edge_of(entries_.data(), size_, depth_);
  if (edge.above + edge.inside - depth_ > (capacity_ - depth_) / 4) return cut();
  size_ = keep_at_least(entries_.data(), size_, uint64_t{edge.least} << 32);
  threshold_ = score_of(edge.least);
}

// Keeps exactly the best `depth`.
void Best::cut() {
  if (size_ <= depth_) return;
  const Edge edge = edge_of(entries_.data(), size_, depth_);
  size_ = keep_at_least(entries_.data(), size_, uint64_t{edge.least} << 32);
  std::vector<uint64_t> inside;
  inside.reserve(edge.inside);
  for (int64_t i = 0; i < size_; ++i) {
    if (high(entries_[i]) < edge.beyond) inside.push_back(entries_[i]);
  }
  const int64_t wanted = depth_ - edge.above;
  const auto better = [this](uint64_t a, uint64_t b) { return before(a, b); };
  std::nth_element(inside.begin(), inside.begin() + wanted - 1, inside.end(), better);
  const uint64_t worst = inside[wanted - 1];
  int64_t kept = 0;
  for (int64_t i = 0; i < size_; ++i) {
    const uint64_t entry = entries_[i];
    entries_[kept] = entry;
    kept += high(entry) > high(worst) || (high(entry) == high(worst) && !before(worst, entry));
  }
  size_ = kept;
  threshold_ = score_of(high(worst));
}

void Best::take(const Best& other) {
  for (int64_t i = 0; i < other.size_; ++i) {
    if (size_ == capacity_) shrink();
    entries_[size_++] = other.entries_[i];
  }
}

void Best::release(std::vector<int64_t>& positions) {
  cut();
  positions.resize(size_);
  for (int64_t i = 0; i < size_; ++i) positions[i] = static_cast<uint32_t>(entries_[i]);
  size_ = 0;
}

int64_t Best::finish(int64_t* positions) {
  cut();
  std::vector<uint64_t> kept(entries_.begin(), entries_.begin() + size_);
  const auto better = [this](uint64_t a, uint64_t b) { return before(a, b); };
  if (size_ < kFew) {
    std::sort(kept.begin(), kept.end(), better);
  } else {
    radix_sort(kept, 32, 64, [](uint64_t entry) { return ~entry; });
    for (auto first = kept.begin(); first != kept.end();) {
      auto stop = first + 1;
      while (stop != kept.end() && high(*stop) == high(*first)) ++stop;
      if (stop - first > 1) std::sort(first, stop, better);
      first = stop;
    }
  }
  for (int64_t i = 0; i < size_; ++i) positions[i] = static_cast<uint32_t>(kept[i]);
  const int64_t found = size_;
  size_ = 0;
  return found;
}

}  // namespace meshfold
