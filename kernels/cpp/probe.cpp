#include "probe.h"

#include <algorithm>
#include <cmath>

#include "select.h"

namespace meshfold {
namespace {

constexpr int64_t kBins = 1024;

}  // namespace

void Probe::score(const Ivf& ivf, const DotQuery& query, const int8_t* codes) {
  const int64_t c = ivf.clusters;
  scores_.resize(c);
  query.run(ivf.centroids, ivf.centroid_units, c, scores_.data());
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
  // Rounding keeps the order of scores, so that no better cluster comes to a later bin.
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

}  // namespace meshfold
