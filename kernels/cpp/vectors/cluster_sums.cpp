// Sums of the members of each cluster, in fixed point; formula in kernels/vectors/cluster_sums.py.
#include <algorithm>
#include <cmath>
#include <vector>

#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"
#include "native/numbers.h"

namespace meshfold {
namespace {

// 128 times this is 2^30, so that rounded values are of 32 bits.
constexpr double kLargestFactor = 8388608.0;

MESHFOLD_INLINE void added(const int8_t* codes, double factor, int64_t dimension, int64_t* sums) {
  for (int64_t j = 0; j < dimension; ++j) {
    sums[j] += static_cast<int32_t>(round_even(static_cast<double>(codes[j]) * factor));
  }
}

MESHFOLD_FOR_EACH_LEVEL(void, add, added, (const int8_t* codes, double factor, int64_t dimension, int64_t* sums),
                        (codes, factor, dimension, sums))

}  // namespace
}  // namespace meshfold

// codes: [n, D], factors: [n], members: [n] -> sums: [C, D].
MESHFOLD_API int32_t meshfold_cluster_sums(const int8_t* codes, const double* factors, const int64_t* members,
                                           int64_t count, int64_t clusters, int64_t dimension, int64_t* sums,
                                           int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    std::vector<int64_t> first(clusters + 1), order(count);
    for (int64_t i = 0; i < count; ++i) {
      if (members[i] < 0 || members[i] >= clusters) {
        throw Invalid("members must lie in 0 to " + std::to_string(clusters - 1) + ", got " +
                      std::to_string(members[i]));
      }
      if (!(std::fabs(factors[i]) <= kLargestFactor)) {
        throw Invalid("factors must lie in -2^23 to 2^23, got " + std::to_string(factors[i]));
      }
      ++first[members[i] + 1];
    }
    for (int64_t c = 0; c < clusters; ++c) first[c + 1] += first[c];
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t i = 0; i < count; ++i) order[next[members[i]]++] = i;
#pragma omp parallel for schedule(dynamic, 16) num_threads(std::max(1, threads))
    for (int64_t c = 0; c < clusters; ++c) {
      int64_t* to = sums + c * dimension;
      std::fill_n(to, dimension, int64_t{0});
      for (int64_t k = first[c]; k < first[c + 1]; ++k) {
        add(codes + order[k] * dimension, factors[order[k]], dimension, to);
      }
    }
  });
}
