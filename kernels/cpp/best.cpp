#include "best.h"

#include <algorithm>
#include <array>
#include <functional>

#include "radix.h"

namespace meshfold {
namespace {

// Below so many, comparing is faster than counting digits.
constexpr int64_t kFew = 256;
// Steps of equal width between the lowest score and the highest.
constexpr int kStepBits = 10;
// Room beyond the depth: how many are taken in before the worst are thrown out.
constexpr int64_t kLeastSpare = 256;

uint32_t high(uint64_t entry) { return static_cast<uint32_t>(entry >> 32); }

float score_of(uint32_t flipped) {
  const int32_t order = static_cast<int32_t>(flipped ^ 0x80000000u);
  return std::bit_cast<float>(order < 0 ? order ^ 0x7FFFFFFF : order);
}

// The high half that `depth` of the n entries reach: a digit at a time, from the highest.
uint32_t last_of(const uint64_t* entries, int64_t n, int64_t depth) {
  if (n < kFew) {
    std::array<uint32_t, kFew> few;
    std::transform(entries, entries + n, few.begin(), high);
    std::nth_element(few.begin(), few.begin() + depth - 1, few.begin() + n, std::greater<>());
    return few[depth - 1];
  }
  uint32_t prefix = 0, known = 0;
  for (const int shift : {21, 10, 0}) {
    std::array<int32_t, kDigits> counts{};
    for (int64_t i = 0; i < n; ++i) {
      if ((high(entries[i]) & known) == prefix) ++counts[high(entries[i]) >> shift & (kDigits - 1)];
    }
    uint32_t bin = kDigits - 1;
    while (counts[bin] < depth) depth -= counts[bin--];
    prefix |= bin << shift;
    known |= (kDigits - 1) << shift;
  }
  return prefix;
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

// Throws out what is below a score that at least `depth` reach: the lower edge of a step, which is found by counting
// once. Where that leaves too many, the exact last is found.
void Best::shrink() {
  if (size_ <= depth_) return;
  uint32_t lowest = ~0u, highest = 0;
  for (int64_t i = 0; i < size_; ++i) {
    lowest = std::min(lowest, high(entries_[i]));
    highest = std::max(highest, high(entries_[i]));
  }
  const int shift = std::max(static_cast<int>(std::bit_width(highest - lowest)) - kStepBits, 0);
  std::array<int32_t, 1 << kStepBits> counts{};
  for (int64_t i = 0; i < size_; ++i) ++counts[(high(entries_[i]) - lowest) >> shift];
  int64_t kept = 0;
  uint32_t step = 1 << kStepBits;
  while (kept < depth_) kept += counts[--step];
  if (kept - depth_ > (capacity_ - depth_) / 4) return cut();
  const uint32_t least = lowest + (step << shift);
  int64_t out = 0;
  for (int64_t i = 0; i < size_; ++i) {
    const uint64_t entry = entries_[i];
    entries_[out] = entry;
    out += high(entry) >= least;
  }
  size_ = out;
  threshold_ = score_of(least);
}

// Keeps exactly the best `depth`.
void Best::cut() {
  if (size_ <= depth_) return;
  const uint32_t last = last_of(entries_.data(), size_, depth_);
  int64_t reaching = 0;
  for (int64_t i = 0; i < size_; ++i) reaching += high(entries_[i]) >= last;
  if (reaching > depth_) {
    const auto first = entries_.begin();
    std::nth_element(first, first + depth_ - 1, first + size_, [this](uint64_t a, uint64_t b) { return before(a, b); });
  } else {
    int64_t kept = 0;
    for (int64_t i = 0; i < size_; ++i) {
      const uint64_t entry = entries_[i];
      entries_[kept] = entry;
      kept += high(entry) >= last;
    }
  }
  size_ = depth_;
  threshold_ = score_of(last);
}

void Best::take(const Best& other) {
  for (int64_t i = 0; i < other.size_; ++i) {
    if (size_ == capacity_) shrink();
    entries_[size_++] = other.entries_[i];
  }
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
