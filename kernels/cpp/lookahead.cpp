#include "lookahead.h"

#include <algorithm>

namespace meshfold {

Lookahead::Lookahead(const Plan& plan, int64_t stop, const Ivf& ivf, int64_t bytes)
    : plan_(plan),
      stop_(stop),
      ivf_(ivf),
      groups_(bytes / (kAskedAtOnce * std::max<int64_t>(coarse_width(ivf.dimension), 1))) {}

const int64_t* Lookahead::next(int64_t u, int64_t first, int64_t items) {
  if (groups_ == 0) return nullptr;
  const Place place{u, first};
  if (place != scored_) begin(place);
  for (int64_t i = 0; i * kAskedAtOnce < items; ++i) {
    // After the last, what is at hand: that costs next to nothing.
    places_[i] = is_end(asked_) ? 0 : asked_.position - first;
    asked_ = after(asked_, kAskedAtOnce);
  }
  scored_ = after(place, items);
  return places_;
}

// All that lies between is asked for at once.
void Lookahead::begin(Place place) {
  const int64_t width = coarse_width(ivf_.dimension);
  for (int64_t i = 0; i < groups_ && !is_end(place); ++i) {
    ask_for_coarse(ivf_.coarse, ivf_.units, width, place.position);
    place = after(place, kAskedAtOnce);
  }
  asked_ = place;
}

// So many items on, or where the next stretch begins. Lists are left out: their items are not read in a row.
Lookahead::Place Lookahead::after(Place place, int64_t items) const {
  if (is_end(place)) return place;
  place.position += items;
  if (place.position < plan_[place.u].last) return place;
  do ++place.u;
  while (!is_end(place) && plan_[place.u].list);
  if (!is_end(place)) place.position = plan_[place.u].first;
  return place;
}

}  // namespace meshfold
