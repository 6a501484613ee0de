// kernels/first_members.py
#include <algorithm>
#include <string>

#include "entry.h"
#include "meshfold.h"

// order: [N]. sets: [B, G, 8]. wanted: [B]. found: [B, k].
MESHFOLD_API int32_t meshfold_first_members(const int32_t* order, int64_t items, const uint64_t* sets,
                                            int64_t bundles, const int64_t* wanted, int64_t queries, int64_t k,
                                            int64_t* found) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t b = 0; b < queries; ++b) {
      if (wanted[b] < 0 || wanted[b] > k) throw Invalid("wanted must lie from 0 to k");
      const uint64_t* const words = sets + b * bundles * kWords;
      int64_t* const out = found + b * k;
      int64_t count = 0;
      for (int64_t i = 0; i < items && count < wanted[b]; ++i) {
        const int64_t position = order[i];
        if (position < 0 || position >= bundles * kBundle) {
          throw Invalid("order holds position " + std::to_string(position) + ", sets hold " +
                        std::to_string(bundles * kBundle));
        }
        // Without a branch, for which half of the items would be a surprise.
        out[count] = position;
        count += words[position / 64] >> position % 64 & 1;
      }
      std::fill(out + count, out + k, -1);
    }
  });
}
