// Candidates in order of score, and the union of lists of positions; kernels/ranked.py and kernels/merge.py.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "entry.h"
#include "meshfold.h"
#include "order.h"
#include "radix.h"

// scores, positions: [b, m]. rows: [n] -> out, places: [b, k]: the best by score, ties to the smaller row; then, for
// nothing, -1 and what is left, in order.
MESHFOLD_API int32_t meshfold_ranked(const float* scores, const int64_t* positions, const int32_t* rows, int64_t n,
                                     int64_t b, int64_t m, int64_t k, int64_t* out, int64_t* places) {
  return meshfold::guarded([&] {
    using namespace meshfold;
    std::vector<uint64_t> entries, nothing;
    for (int64_t i = 0; i < b; ++i) {
      const int64_t* own = positions + i * m;
      entries.clear();
      nothing.clear();
      for (int64_t j = 0; j < m; ++j) {
        if (own[j] >= n) throw Invalid("positions hold " + std::to_string(own[j]) + ", of " + std::to_string(n));
        if (own[j] < 0) {
          nothing.push_back(j);
        } else {
          entries.push_back(entry_of(scores[i * m + j], static_cast<uint32_t>(j)));
        }
      }
      put_in_order(entries, k, [&](uint32_t place) { return rows[own[place]]; });
      const int64_t found = std::min<int64_t>(k, static_cast<int64_t>(entries.size()));
      for (int64_t j = 0; j < k; ++j) {
        const uint32_t place = static_cast<uint32_t>(j < found ? entries[j] : nothing[j - found]);
        places[i * k + j] = place;
        out[i * k + j] = j < found ? own[place] : -1;
      }
    }
  });
}

// found: [b, t, k] positions, -1 for nothing -> positions [b, t k], each once, ascending, -1 after the last; common
// [b, t k]: found by all t.
MESHFOLD_API int32_t meshfold_merge(const int64_t* found, int64_t b, int64_t t, int64_t k, int64_t* positions,
                                    uint8_t* common) {
  return meshfold::guarded([&] {
    using namespace meshfold;
    std::vector<uint64_t> held;
    for (int64_t i = 0; i < b; ++i) {
      held.clear();
      uint64_t all = 0;
      for (int64_t j = i * t * k; j < (i + 1) * t * k; ++j) {
        if (found[j] < 0) continue;
        held.push_back(static_cast<uint64_t>(found[j]));
        all |= held.back();
      }
      int bits = 0;
      while (bits < 64 && all >> bits) ++bits;
      radix_sort(held, 0, bits, [](uint64_t position) { return position; });
      int64_t out = i * t * k;
      for (size_t first = 0; first < held.size();) {
        size_t stop = first + 1;
        while (stop < held.size() && held[stop] == held[first]) ++stop;
        positions[out] = static_cast<int64_t>(held[first]);
        // Each task names a position at most once.
        common[out++] = static_cast<int64_t>(stop - first) == t;
        first = stop;
      }
      std::fill(positions + out, positions + (i + 1) * t * k, -1);
      std::fill(common + out, common + (i + 1) * t * k, 0);
    }
  });
}
