// Candidates in order of score, and the union of lists of positions; kernels/search/ranked.py and
// kernels/search/merge.py.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "native/entry.h"
#include "native/meshfold.h"
#include "search/order.h"

// scores, positions: [b, m]. rows: [n]. max_results: [b] -> out, places: [b, most_results]: the best max_results by
// score, ties to the smaller row; then -1 and place 0.
MESHFOLD_API int32_t meshfold_ranked(const float* scores, const int64_t* positions, const int32_t* rows,
                                     const int64_t* max_results, int64_t n, int64_t b, int64_t m, int64_t most_results,
                                     int64_t* out, int64_t* places) {
  return meshfold::guarded([&] {
    using namespace meshfold;
    std::vector<uint64_t> entries;
    for (int64_t i = 0; i < b; ++i) {
      const int64_t* own = positions + i * m;
      entries.clear();
      for (int64_t j = 0; j < m; ++j) {
        if (own[j] >= n) throw Invalid("positions hold " + std::to_string(own[j]) + ", of " + std::to_string(n));
        if (own[j] >= 0) entries.push_back(entry_of(scores[i * m + j], static_cast<uint32_t>(j)));
      }
      const int64_t most = std::clamp<int64_t>(max_results[i], 0, most_results);
      put_in_order(entries, most, [&](uint32_t place) { return rows[own[place]]; });
      const int64_t found = std::min<int64_t>(most, static_cast<int64_t>(entries.size()));
      for (int64_t j = 0; j < found; ++j) {
        const auto place = static_cast<uint32_t>(entries[j]);
        places[i * most_results + j] = place;
        out[i * most_results + j] = own[place];
      }
      std::fill(out + i * most_results + found, out + (i + 1) * most_results, -1);
      std::fill(places + i * most_results + found, places + (i + 1) * most_results, 0);
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
