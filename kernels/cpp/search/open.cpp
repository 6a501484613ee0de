#include "search/open.h"

#include <algorithm>
#include <cmath>

#include "filter/compare.h"
#include "search/select.h"

namespace meshfold {
namespace {

// Distance of prefetching, in clusters, which lie anywhere in memory.
constexpr int64_t kClustersAhead = 8;
// Bins of equal width in the score.
constexpr int64_t kBins = 1024;

}  // namespace

void Probe::score(const Ivf& ivf, const DotQuery& query, const int8_t* codes) {
  const int64_t c = ivf.clusters;
  scores_.resize(c);
  query.run(ivf.centroids, ivf.centroid_scales, c, scores_.data());
  int64_t square = 0;
  for (int64_t j = 0; j < ivf.dimension; ++j) square += static_cast<int64_t>(codes[j]) * codes[j];
  const float length = static_cast<float>(std::sqrt(static_cast<double>(square)));
  float lowest = INFINITY, highest = -INFINITY;
  for (int64_t i = 0; i < c; ++i) {
    // A product and a sum, each rounded, as in the reference.
    const float wide = length * ivf.centroid_spreads[i];
    const float score = scores_[i] + wide;
    scores_[i] = score;
    lowest = score < lowest ? score : lowest;
    highest = score > highest ? score : highest;
  }
  // Rounding keeps the order of scores, so that a better cluster never gets a later bin.
  const double width = static_cast<double>(highest) - lowest;
  const double scale = width > 0 ? (kBins - 1) / width : 0.0;
  starts_.assign(kBins + 1, 0);
  bin_of_.resize(c);
  for (int64_t i = 0; i < c; ++i) {
    const double below = (static_cast<double>(highest) - scores_[i]) * scale;
    bin_of_[i] = below < kBins - 1 ? static_cast<uint16_t>(below) : kBins - 1;
    ++starts_[bin_of_[i] + 1];
  }
  for (int64_t bin = 0; bin < kBins; ++bin) starts_[bin + 1] += starts_[bin];
  clusters_.resize(c);
  // Each start moves to its bin's end, which is the next bin's start.
  for (int64_t i = 0; i < c; ++i) clusters_[starts_[bin_of_[i]]++] = static_cast<int32_t>(i);
  std::copy_backward(starts_.begin(), starts_.end() - 1, starts_.end());
  starts_[0] = 0;
}

void Probe::sort(int64_t bin) {
  std::sort(clusters_.begin() + starts_[bin], clusters_.begin() + starts_[bin + 1], [this](int32_t a, int32_t b) {
    const int32_t of_a = ordered(scores_[a]), of_b = ordered(scores_[b]);
    return of_a != of_b ? of_a > of_b : a < b;
  });
}

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
    // The budget or the probes are met within this bin.
    if (opened.survivors >= budget || static_cast<int64_t>(opened.clusters.size()) == most) break;
  }
  opened.count = static_cast<int64_t>(opened.clusters.size());
}

}  // namespace meshfold
