#include "search/sample.h"

#include <array>

#include "filter/compare.h"
#include "filter/filter.h"
#include "native/entry.h"

namespace meshfold {
namespace {

// floor((2 i + 1) n / (2 size)), as sample_positions() in kernels/search/sample.py.
int64_t sample_position(int64_t i, int64_t n, int64_t size) {
  const int64_t odd = 2 * i + 1, parts = 2 * size;
  return n / parts * odd + n % parts * odd / parts;
}

}  // namespace

int64_t sampled(const FilterIndex& sample, const FilterBatch& filters, int64_t query, int64_t items) {
  const int64_t size = sample.items, bundles = (size + kBundle - 1) / kBundle;
  if (size == 0) return 0;
  // Exclusions are positions among all items.
  FilterBatch own = filters;
  own.excluded_count = 0;
  std::array<uint64_t, kSample / kBundle * kWords> words{};
  Filter(sample, own, query).bundles(0, bundles, words.data());
  for (int64_t e = 0; e < filters.excluded_count; ++e) {
    const int64_t position = filters.excluded[query * filters.excluded_count + e];
    if (position < 0) continue;
    // If the position is in the sample, its place is this one or the next.
    const int64_t place = position * size / items;
    for (int64_t i = place; i < size && i < place + 2; ++i) {
      if (sample_position(i, items, size) == position) words[i / 64] &= ~(uint64_t{1} << i % 64);
    }
  }
  return popcount(words.data(), static_cast<int64_t>(words.size()));
}

}  // namespace meshfold

// sample: index of the sampled items alone. items: N, of the whole catalog -> found: [B] - how many of the sample pass
// the filter of each query and are not excluded.
MESHFOLD_API int32_t meshfold_sampled(const meshfold::FilterIndex* sample, const meshfold::FilterBatch* filters,
                                      int64_t items, int64_t* found) {
  return meshfold::guarded([&] {
    for (int64_t i = 0; i < filters->queries; ++i) found[i] = meshfold::sampled(*sample, *filters, i, items);
  });
}
