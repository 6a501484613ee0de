// The stretches of memory that a search reads, in order, and the query vectors that score them.
#pragma once

#include <cstdint>
#include <vector>

#include "native/meshfold.h"
#include "search/coarse.h"
#include "search/open.h"

namespace meshfold {

// Positions first to last - 1, or places in a list of positions, and the slots (query vectors) that score them.
struct Stretch {
  int64_t first, last;
  int64_t slots, count;           // first place in the slots of the plan, and their number
  const int32_t* list = nullptr;
};

class Plan {
 public:
  void reset();

  // Adds clusters with the slots that opened them, in the order of memory: reading on is several times as fast as a
  // jump. Consecutive clusters with the same slots become one stretch.
  void add_clusters(const Opened* opened, int64_t slots, const int64_t* offsets, int64_t clusters);

  // Adds the positions of a list for slots first_slot to first_slot + slots - 1, in stretches of at_a_time.
  void add_list(const std::vector<int32_t>& list, int64_t at_a_time, int64_t first_slot, int64_t slots);

  // Adds all positions for the given slots, in stretches of at_a_time.
  void add_all(int64_t items, int64_t at_a_time, const std::vector<int32_t>& slots);

  int64_t size() const { return static_cast<int64_t>(stretches_.size()); }
  const Stretch& operator[](int64_t place) const { return stretches_[place]; }
  const int32_t* slots(const Stretch& stretch) const { return slots_.data() + stretch.slots; }

 private:
  void join(int64_t first);

  std::vector<Stretch> stretches_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> next_;       // [C] - slots of a cluster, then the place of the next one
  std::vector<uint64_t> any_;       // a bit for each cluster that a slot opened
};

// Where a scan reads next, a fixed distance ahead of what it scores, from cluster to cluster in the order of a plan: no
// processor foresees these jumps.
class Prefetcher {
 public:
  // For stretches before `stop`. bytes: prefetch distance in coarse rows; 0 for none.
  Prefetcher(const Plan& plan, int64_t stop, const Ivf& ivf, int64_t bytes);

  // Called before `items` items, at most kMost, are scored from position `first` of stretch u on. For each
  // kPrefetchItems of them: the offset from `first` of the items to prefetch meanwhile. Null without prefetching.
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
  int64_t groups_;                  // distance in kPrefetchItems
  Place scored_{-1, -1};            // scored next, unless stretches are skipped
  Place next_place_{-1, -1};        // prefetched next
  int64_t places_[kMost / kPrefetchItems];
};

}  // namespace meshfold
