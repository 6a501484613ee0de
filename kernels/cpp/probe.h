// The clusters of an index in the order in which a query opens them; formula in kernels/probe.py.
#pragma once

#include <cstdint>
#include <vector>

#include "dot.h"
#include "meshfold.h"

namespace meshfold {

// Sorts as coarsely as will do: bins of equal width in the score, best bin first. The bin in which a query's last
// cluster lies is all that has to be sorted.
class Probe {
 public:
  void score(const Ivf& ivf, const DotQuery& query, const int8_t* codes);

  int64_t bins() const { return static_cast<int64_t>(starts_.size()) - 1; }
  const int32_t* begin(int64_t bin) const { return clusters_.data() + starts_[bin]; }
  const int32_t* end(int64_t bin) const { return clusters_.data() + starts_[bin + 1]; }

  // Puts the clusters of a bin in their exact order: ties to the smaller cluster.
  void sort(int64_t bin);

 private:
  std::vector<float> scores_;
  std::vector<int32_t> clusters_;
  std::vector<int32_t> starts_;
  std::vector<uint16_t> bin_of_;
};

}  // namespace meshfold
