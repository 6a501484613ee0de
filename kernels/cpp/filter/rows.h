// The candidates of one term by its signature rows, for several bundles at a time.
#pragma once

#include <cstdint>

#include "filter/sets.h"
#include "native/meshfold.h"

namespace meshfold {

// Rows to prefetch of a bundle, and the prefetch distance in bundles.
constexpr int64_t kRowsAhead = 16, kBundlesAhead = 6;

// Groups of rows: group g is rows[ends[g]] to rows[ends[g + 1] - 1].
struct RowGroups {
  const int32_t* rows;
  const int32_t* ends;
  int32_t groups;
};

// Items of any group; the rows of a group are ANDed. signature: [R, 8] of a bundle.
MESHFOLD_INLINE void in_rows(const uint64_t* signature, const RowGroups& of, Set& out) {
  fill(out, 0);
  for (int32_t g = 0; g < of.groups; ++g) {
    Set all;
    load(all, signature + of.rows[of.ends[g]] * kWords);
    for (int32_t r = of.ends[g] + 1; r < of.ends[g + 1]; ++r) among(signature + of.rows[r] * kWords, all);
    unite(out, all);
  }
}

// out: [bundles, 8] - the candidates. signature: [all, stride words] from the first bundle on; prefetches beyond
// `bundles`, up to `all`.
void in_rows(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles, int64_t all,
             uint64_t* out) noexcept;

// masks: [bundles] - bit w of masks[g] is set where words[g][w] is not 0.
void nonempty_words(const uint64_t* words, int64_t bundles, uint8_t* masks) noexcept;

// Keeps the ascending positions whose bit in a row equals `wanted`, in order; returns their number. signature:
// [bundles, stride words].
int64_t narrow_by_row(const uint64_t* signature, int64_t stride, int32_t row, bool wanted, int32_t* positions,
                      int64_t count) noexcept;

}  // namespace meshfold
