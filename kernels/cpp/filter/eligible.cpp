// kernels/filter/eligible.py
#include <algorithm>
#include <vector>

#include "filter/compare.h"
#include "filter/filter.h"
#include "native/entry.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

// Bundles that a thread evaluates at a time.
constexpr int64_t kPart = 64;

}  // namespace
}  // namespace meshfold

// needed: [B]. bits: [B, G, 8], counts: [B].
MESHFOLD_API int32_t meshfold_eligible(const meshfold::FilterIndex* index, const meshfold::FilterBatch* filters,
                                       const bool* needed, uint64_t* bits, int64_t* counts, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const int64_t bundles = (index->items + kBundle - 1) / kBundle, parts = (bundles + kPart - 1) / kPart;
    std::vector<Filter> compiled;
    std::vector<int64_t> queries;
    for (int64_t b = 0; b < filters->queries; ++b) {
      counts[b] = 0;
      if (!needed[b]) {
        std::fill_n(bits + b * bundles * kWords, bundles * kWords, 0);
        continue;
      }
      compiled.emplace_back(*index, *filters, b);
      queries.push_back(b);
    }
    const int64_t work = static_cast<int64_t>(compiled.size()) * parts;
    int64_t* const held = counts;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (work > 1)
    for (int64_t at = 0; at < work; ++at) {
      const int64_t b = queries[at / parts], first = at % parts * kPart;
      const int64_t last = first + kPart < bundles ? first + kPart : bundles;
      uint64_t* const out = bits + (b * bundles + first) * kWords;
      compiled[at / parts].bundles(first, last, out);
      const int64_t passing = popcount(out, (last - first) * kWords);
#pragma omp atomic
      held[b] += passing;
    }
  });
}
