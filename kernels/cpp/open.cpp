#include "open.h"

#include <algorithm>

#include "compare.h"

namespace meshfold {
namespace {

// Clusters lie anywhere: so many ahead are asked for while one is filtered.
constexpr int64_t kClustersAhead = 8;

}  // namespace

void Survivors::reset(const Filter* filter, int64_t items) {
  filter_ = filter;
  if (filter->passes_all()) return;
  const int64_t bundles = (items + kBundle - 1) / kBundle;
  if (static_cast<int64_t>(ready_.size()) < bundles) {
    words_.resize(bundles * kWords + 1);
    ready_.resize(bundles);
  }
  std::fill(ready_.begin(), ready_.begin() + bundles, 0);
}

void Survivors::need(int64_t first, int64_t last) {
  if (all() || first >= last) return;
  const int64_t stop = (last - 1) / kBundle + 1;
  for (int64_t g = first / kBundle; g < stop; ++g) {
    if (ready_[g]) continue;
    int64_t end = g + 1;
    while (end < stop && !ready_[end]) ++end;
    filter_->bundles(g, end, words_.data() + g * kWords);
    std::fill(ready_.begin() + g, ready_.begin() + end, 1);
    g = end - 1;
  }
}

void Survivors::prefetch(int64_t first, int64_t last) const {
  if (all() || first >= last) return;
  for (int64_t g = first / kBundle; g <= (last - 1) / kBundle; ++g) {
    if (!ready_[g]) filter_->prefetch(g);
  }
}

int64_t Survivors::count(int64_t first, int64_t last) const {
  if (all() || first >= last) return std::max<int64_t>(last - first, 0);
  const int64_t begin = first >> 6, end = (last - 1) >> 6;
  const uint64_t outside[2] = {words_[begin] & ~within(begin, first, last), words_[end] & ~within(end, first, last)};
  return popcount(words_.data() + begin, end - begin + 1) - popcount(outside, begin == end ? 1 : 2);
}

void open_clusters(Probe& probe, const int64_t* offsets, int64_t clusters, int64_t budget, int64_t probes,
                   Survivors& survivors, Opened& opened) {
  opened.clusters.clear();
  opened.survivors = 0;
  const int64_t most = std::clamp<int64_t>(probes, 0, clusters);
  const auto held = [&](const int32_t* at) {
    if (probe.end(probe.bins() - 1) - at > kClustersAhead) {
      const int32_t later = at[kClustersAhead];
      survivors.prefetch(offsets[later], offsets[later + 1]);
    }
    const int64_t first = offsets[*at], last = offsets[*at + 1];
    survivors.need(first, last);
    return survivors.count(first, last);
  };
  for (int64_t bin = 0; bin < probe.bins(); ++bin) {
    const int64_t size = probe.end(bin) - probe.begin(bin);
    const int64_t before = static_cast<int64_t>(opened.clusters.size());
    if (size == 0) continue;
    int64_t found = 0;
    for (const int32_t* cluster = probe.begin(bin); cluster != probe.end(bin); ++cluster) found += held(cluster);
    if (before + size <= most && opened.survivors + found < budget) {
      opened.clusters.insert(opened.clusters.end(), probe.begin(bin), probe.end(bin));
      opened.survivors += found;
      continue;
    }
    probe.sort(bin);
    for (const int32_t* cluster = probe.begin(bin); cluster != probe.end(bin); ++cluster) {
      if (static_cast<int64_t>(opened.clusters.size()) == most) break;
      opened.clusters.push_back(*cluster);
      opened.survivors += held(cluster);
      if (opened.survivors >= budget) break;
    }
    // The budget or the probes are met: this was the bin in which they are, or the last that may be opened.
    if (opened.survivors >= budget || static_cast<int64_t>(opened.clusters.size()) == most) break;
  }
  opened.count = static_cast<int64_t>(opened.clusters.size());
}

}  // namespace meshfold
