// What a search reads, in which order, and for which query vectors.
#pragma once

#include <cstdint>
#include <vector>

#include "open.h"

namespace meshfold {

// Positions from first to last - 1, or places of a list of them, and how many slots (query vectors) score them.
struct Stretch {
  int64_t first, last;
  int64_t slots, count;           // from which place of a plan's slots on, how many
  const int32_t* list = nullptr;
};

class Plan {
 public:
  void reset();

  // Clusters with those of the slots that opened them, in the order of memory: to read on is several times as fast as to
  // begin elsewhere. Those one after the other that the same slots opened are one stretch.
  void add_clusters(const Opened* opened, int64_t slots, const int64_t* offsets, int64_t clusters);

  // Positions of a list, for `slots` slots from the first on; so many at a time.
  void add_list(const std::vector<int32_t>& list, int64_t at_a_time, int64_t first_slot, int64_t slots);

  // All positions, for given slots; so many at a time.
  void add_all(int64_t items, int64_t at_a_time, const std::vector<int32_t>& slots);

  int64_t size() const { return static_cast<int64_t>(stretches_.size()); }
  const Stretch& operator[](int64_t place) const { return stretches_[place]; }
  const int32_t* slots(const Stretch& stretch) const { return slots_.data() + stretch.slots; }

 private:
  void join(int64_t first);

  std::vector<Stretch> stretches_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> next_;       // [C] - how many opened a cluster, then where the next of them comes
  std::vector<uint64_t> any_;       // a bit for each cluster: whether any opened it
};

}  // namespace meshfold
