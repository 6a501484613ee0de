// Clusters in probe order, the clusters that a query opens, and their survivors; formula of the order in
// kernels/search/probe.py.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "filter/filter.h"
#include "native/meshfold.h"
#include "search/dot.h"

namespace meshfold {

// The clusters of an index in bins of equal width in the score, best bin first. Only the bin of the last opened cluster
// has to be sorted.
class Probe {
 public:
  void score(const Ivf& ivf, const DotQuery& query, const int8_t* codes);

  int64_t bins() const { return static_cast<int64_t>(starts_.size()) - 1; }
  const int32_t* begin(int64_t bin) const { return clusters_.data() + starts_[bin]; }
  const int32_t* end(int64_t bin) const { return clusters_.data() + starts_[bin + 1]; }

  // Sorts the clusters of a bin; ties to the smaller cluster.
  void sort(int64_t bin);

 private:
  std::vector<float> scores_;
  std::vector<int32_t> clusters_;
  std::vector<int32_t> starts_;
  std::vector<uint16_t> bin_of_;
};

// The eligible items of one query as bits, evaluated a bundle at a time on first use.
class Survivors {
 public:
  void reset(const Filter* filter, int64_t items);

  bool all() const { return filter_->passes_all(); }

  // Evaluates the bundles of positions first to last - 1. Several threads must not evaluate one bundle.
  void need(int64_t first, int64_t last);

  // Prefetches the rows of the bundles of positions first to last - 1.
  void prefetch(int64_t first, int64_t last) const;

  // Survivors among positions first to last - 1, after need() of them.
  int64_t count(int64_t first, int64_t last) const;

  // Word w of the bits; w is position / 64.
  uint64_t word(int64_t w) const { return words_[w]; }

  // All words, and one more.
  const uint64_t* words() const { return words_.data(); }

 private:
  const Filter* filter_ = nullptr;
  std::vector<uint64_t> words_;
  std::vector<uint8_t> ready_;
};

// The bits of word w that are positions first to last - 1.
inline uint64_t within(int64_t w, int64_t first, int64_t last) {
  uint64_t bits = ~0ULL;
  if (w == first >> 6) bits &= ~0ULL << (first & 63);
  if (w == (last - 1) >> 6) bits &= ~0ULL >> (63 - ((last - 1) & 63));
  return bits;
}

// Clusters that one query vector opens.
struct Opened {
  std::vector<int32_t> clusters;    // about best first
  int64_t count = 0;
  int64_t survivors = 0;
};

// The shortest run of clusters in probe order that holds `budget` survivors, at most `probes`.
void open_clusters(Probe& probe, const int64_t* offsets, int64_t clusters, int64_t budget, int64_t probes,
                   Survivors& survivors, Opened& opened);

}  // namespace meshfold
