#include "search/plan.h"

#include <algorithm>
#include <numeric>

namespace meshfold {
namespace {

// Most positions of a stretch of several clusters, so that threads get even shares.
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

// Joins stretches from `first` on.
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

Prefetcher::Prefetcher(const Plan& plan, int64_t stop, const Ivf& ivf, int64_t bytes)
    : plan_(plan),
      stop_(stop),
      ivf_(ivf),
      groups_(bytes / (kPrefetchItems * std::max<int64_t>(coarse_width(ivf.dimension), 1))) {}

const int64_t* Prefetcher::next(int64_t u, int64_t first, int64_t items) {
  if (groups_ == 0) return nullptr;
  const Place place{u, first};
  if (place != scored_) begin(place);
  for (int64_t i = 0; i * kPrefetchItems < items; ++i) {
    // After the last place, items that are in the cache, which costs next to nothing.
    places_[i] = is_end(next_place_) ? 0 : next_place_.position - first;
    next_place_ = after(next_place_, kPrefetchItems);
  }
  scored_ = after(place, items);
  return places_;
}

// Prefetches everything within the distance.
void Prefetcher::begin(Place place) {
  const int64_t width = coarse_width(ivf_.dimension);
  for (int64_t i = 0; i < groups_ && !is_end(place); ++i) {
    prefetch_coarse(ivf_.coarse, ivf_.scales, width, place.position);
    place = after(place, kPrefetchItems);
  }
  next_place_ = place;
}

// The place `items` further, or the start of the next stretch. Lists are skipped: their items are not read in a row.
Prefetcher::Place Prefetcher::after(Place place, int64_t items) const {
  if (is_end(place)) return place;
  place.position += items;
  if (place.position < plan_[place.u].last) return place;
  do ++place.u;
  while (!is_end(place) && plan_[place.u].list);
  if (!is_end(place)) place.position = plan_[place.u].first;
  return place;
}

}  // namespace meshfold
