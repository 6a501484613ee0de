// Which clusters a query opens, and which of their items survive its filter.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "filter.h"
#include "meshfold.h"
#include "probe.h"

namespace meshfold {

// The eligible items of one query as bits, evaluated a bundle at a time when they are first asked for.
class Survivors {
 public:
  void reset(const Filter* filter, int64_t items);

  bool all() const { return filter_->passes_all(); }

  // Evaluates the bundles of positions first to last; not safe from several threads for one bundle.
  void need(int64_t first, int64_t last);

  // Asks the memory for what the bundles of positions first to last will read.
  void prefetch(int64_t first, int64_t last) const;

  // How many of the positions survive; they were needed before.
  int64_t count(int64_t first, int64_t last) const;

  // Word w of the bits; w is position / 64.
  uint64_t word(int64_t w) const { return words_[w]; }

  // All of them, and one more.
  const uint64_t* words() const { return words_.data(); }

 private:
  const Filter* filter_ = nullptr;
  std::vector<uint64_t> words_;
  std::vector<uint8_t> ready_;
};

// The bits of word w that lie in positions first to last.
inline uint64_t within(int64_t w, int64_t first, int64_t last) {
  uint64_t bits = ~0ULL;
  if (w == first >> 6) bits &= ~0ULL << (first & 63);
  if (w == (last - 1) >> 6) bits &= ~0ULL >> (63 - ((last - 1) & 63));
  return bits;
}

// What one query vector opens.
struct Opened {
  std::vector<int32_t> clusters;    // about best first
  int64_t count = 0;
  int64_t survivors = 0;
};

// The shortest run of clusters in probe order that holds `budget` survivors, at most `probes`.
void open_clusters(Probe& probe, const int64_t* offsets, int64_t clusters, int64_t budget, int64_t probes,
                   Survivors& survivors, Opened& opened);

}  // namespace meshfold
