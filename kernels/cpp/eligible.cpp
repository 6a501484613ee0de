// kernels/eligible.py
#include <algorithm>
#include <vector>

#include "compare.h"
#include "entry.h"
#include "filter.h"
#include "meshfold.h"

namespace meshfold {
namespace {

// Bundles that a thread takes at a time.
constexpr int64_t kPart = 64;

}  // namespace
}  // namespace meshfold

// wanted: [B]. bits: [B, G, 8], counts: [B].
MESHFOLD_API int32_t meshfold_eligible(const meshfold::FilterIndex* index, const meshfold::Programs* programs,
                                       const bool* wanted, uint64_t* bits, int64_t* counts, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const int64_t bundles = (index->items + kBundle - 1) / kBundle, parts = (bundles + kPart - 1) / kPart;
    std::vector<Filter> filters;
    std::vector<int64_t> queries;
    for (int64_t b = 0; b < programs->queries; ++b) {
      counts[b] = 0;
      if (!wanted[b]) {
        std::fill_n(bits + b * bundles * kWords, bundles * kWords, 0);
        continue;
      }
      filters.emplace_back(*index, *programs, b);
      queries.push_back(b);
    }
    const int64_t work = static_cast<int64_t>(filters.size()) * parts;
    int64_t* const held = counts;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (work > 1)
    for (int64_t at = 0; at < work; ++at) {
      const int64_t b = queries[at / parts], first = at % parts * kPart;
      const int64_t last = first + kPart < bundles ? first + kPart : bundles;
      uint64_t* const out = bits + (b * bundles + first) * kWords;
      filters[at / parts].bundles(first, last, out);
      const int64_t passing = popcount(out, (last - first) * kWords);
#pragma omp atomic
      held[b] += passing;
    }
  });
}
