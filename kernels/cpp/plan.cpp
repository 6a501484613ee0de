#include "plan.h"

#include <algorithm>
#include <numeric>

namespace meshfold {
namespace {

// Positions of a stretch of several clusters: no more, so that threads share them evenly.
constexpr int64_t kLongest = 2048;

}  // namespace

void Plan::reset() {
  stretches_.clear();
  slots_.clear();
}

void Plan::add_clusters(const Opened* opened, int64_t slots, const int64_t* offsets, int64_t clusters) {
  next_.assign(clusters, 0);
  any_.assign((clusters + 63) / 64, 0);
  for (int64_t s = 0; s < slots; ++s) {
    for (const int32_t cluster : opened[s].clusters) {
      ++next_[cluster];
      any_[cluster >> 6] |= uint64_t{1} << (cluster & 63);
    }
  }
  const int64_t before = size();
  auto place = static_cast<int64_t>(slots_.size());
  for (int64_t w = 0; w < static_cast<int64_t>(any_.size()); ++w) {
    for (uint64_t left = any_[w]; left != 0; left &= left - 1) {
      const int64_t cluster = w * 64 + __builtin_ctzll(left), count = next_[cluster];
      stretches_.push_back({offsets[cluster], offsets[cluster + 1], place, count});
      next_[cluster] = static_cast<int32_t>(place);
      place += count;
    }
  }
  slots_.resize(place);
  for (int64_t s = 0; s < slots; ++s) {
    for (const int32_t cluster : opened[s].clusters) slots_[next_[cluster]++] = static_cast<int32_t>(s);
  }
  join(before);
}

// Joins stretches, from one on.
void Plan::join(int64_t first) {
  int64_t joined = first;
  for (int64_t i = first; i < size(); ++i) {
    const Stretch own = stretches_[i];
    if (own.first == own.last) continue;
    if (joined > first) {
      Stretch& before = stretches_[joined - 1];
      const int32_t *mine = slots(own), *its = slots(before);
      if (before.last == own.first && own.last - before.first <= kLongest &&
          std::equal(mine, mine + own.count, its, its + before.count)) {
        before.last = own.last;
        continue;
      }
    }
    stretches_[joined++] = own;
  }
  stretches_.resize(joined);
}

void Plan::add_list(const std::vector<int32_t>& list, int64_t at_a_time, int64_t first_slot, int64_t slots) {
  const auto place = static_cast<int64_t>(slots_.size()), found = static_cast<int64_t>(list.size());
  slots_.resize(place + slots);
  std::iota(slots_.begin() + place, slots_.end(), static_cast<int32_t>(first_slot));
  for (int64_t first = 0; first < found; first += at_a_time) {
    stretches_.push_back({first, std::min(found, first + at_a_time), place, slots, list.data()});
  }
}

void Plan::add_all(int64_t items, int64_t at_a_time, const std::vector<int32_t>& slots) {
  if (slots.empty()) return;
  const auto place = static_cast<int64_t>(slots_.size());
  slots_.insert(slots_.end(), slots.begin(), slots.end());
  for (int64_t first = 0; first < items; first += at_a_time) {
    stretches_.push_back({first, std::min(items, first + at_a_time), place, static_cast<int64_t>(slots.size())});
  }
}

}  // namespace meshfold
