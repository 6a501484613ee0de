// kernels/filter/first_members.py
#include <algorithm>
#include <string>

#include "native/entry.h"
#include "native/meshfold.h"

// order: [N]. sets: [B, G, 8]. max_results: [B]. found: [B, most_results].
MESHFOLD_API int32_t meshfold_first_members(const int32_t* order, int64_t items, const uint64_t* sets,
                                            int64_t bundles, const int64_t* max_results, int64_t queries,
                                            int64_t most_results,
                                            int64_t* found) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t b = 0; b < queries; ++b) {
      if (max_results[b] < 0 || max_results[b] > most_results) {
        throw Invalid("max_results must be from 0 to the columns of the result");
      }
      const uint64_t* const words = sets + b * bundles * kWords;
      int64_t* const out = found + b * most_results;
      int64_t count = 0;
      for (int64_t i = 0; i < items && count < max_results[b]; ++i) {
        const int64_t position = order[i];
        if (position < 0 || position >= bundles * kBundle) {
          throw Invalid("order holds position " + std::to_string(position) + ", sets hold " +
                        std::to_string(bundles * kBundle));
        }
        // Without a branch, which the processor would mispredict for half of the items.
        out[count] = position;
        count += words[position / 64] >> position % 64 & 1;
      }
      std::fill(out + count, out + most_results, -1);
    }
  });
}
