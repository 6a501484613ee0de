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
  if (first != expected_) begin(u, first);
  for (int64_t i = 0; i * kAskedAtOnce < items; ++i) asked_[i] = take(first) - first;
  const Stretch& stretch = plan_[u];
  expected_ = first + items < stretch.last ? first + items : u + 1 < stop_ ? plan_[u + 1].first : -1;
  return asked_;
}

// All that lies between is asked for at once.
void Lookahead::begin(int64_t u, int64_t first) {
  u_ = u;
  at_ = first;
  const int64_t width = coarse_width(ivf_.dimension);
  for (int64_t i = 0; i < groups_; ++i) {
    const int64_t at = take(-1);
    if (at < 0) break;
    ask_for_coarse(ivf_.coarse, ivf_.units, width, at);
  }
}

// After the last: `otherwise`.
int64_t Lookahead::take(int64_t otherwise) {
  while (u_ < stop_ && at_ >= plan_[u_].last) {
    if (++u_ < stop_) at_ = plan_[u_].first;
  }
  if (u_ >= stop_ || plan_[u_].list) return otherwise;
  const int64_t at = at_;
  at_ += kAskedAtOnce;
  return at;
}

}  // namespace meshfold
