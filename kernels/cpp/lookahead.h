// Where a scan reads next, a given way ahead of what it scores: from cluster to cluster as a plan has them, which no
// processor foresees.
#pragma once

#include <cstdint>

#include "coarse.h"
#include "meshfold.h"
#include "plan.h"

namespace meshfold {

class Lookahead {
 public:
  // Of stretches before `stop`. bytes: of coarse rows, how far ahead; 0 for not at all.
  Lookahead(const Plan& plan, int64_t stop, const Ivf& ivf, int64_t bytes);

  // For each kAskedAtOnce of `items` that are scored, from position `first` of stretch u on: where those begin that are
  // to be asked for meanwhile, counted from `first`. At most kMost items at a time. Null where nothing is asked for.
  const int64_t* next(int64_t u, int64_t first, int64_t items);

  static constexpr int64_t kMost = 128;

 private:
  struct Place {
    int64_t u, position;
    bool operator==(const Place&) const = default;
  };

  void begin(Place place);
  Place after(Place place, int64_t items) const;
  bool is_end(const Place& place) const { return place.u >= stop_; }

  const Plan& plan_;
  int64_t stop_;
  const Ivf& ivf_;
  int64_t groups_;                  // how far ahead, in kAskedAtOnce
  Place scored_{-1, -1};            // what is scored next, if nothing is left out
  Place asked_{-1, -1};             // what is asked for next
  int64_t places_[kMost / kAskedAtOnce];
};

}  // namespace meshfold
