// The candidates of one term, by its rows of the signature, bundles at a time.
#pragma once

#include <cstdint>

#include "meshfold.h"
#include "sets.h"

namespace meshfold {

// Rows of a bundle, and bundles, that are asked for ahead.
constexpr int64_t kRowsAhead = 16, kBundlesAhead = 6;

// Groups of rows: g has rows[ends[g]] to before rows[ends[g + 1]].
struct RowGroups {
  const int32_t* rows;
  const int32_t* ends;
  int32_t groups;
};

// Items of any group of rows, which are ANDed. signature: [R, 8] of a bundle.
MESHFOLD_INLINE void in_rows(const uint64_t* signature, const RowGroups& of, Set& out) {
  fill(out, 0);
  for (int32_t g = 0; g < of.groups; ++g) {
    Set all;
    load(all, signature + of.rows[of.ends[g]] * kWords);
    for (int32_t r = of.ends[g] + 1; r < of.ends[g + 1]; ++r) among(signature + of.rows[r] * kWords, all);
    unite(out, all);
  }
}

// The candidates of so many bundles, [bundles, 8]. signature: [.., stride words] from the first of them on. It has `all`
// bundles, of which those that come next are asked for.
void in_rows(const uint64_t* signature, int64_t stride, const RowGroups& of, int64_t bundles, int64_t all,
             uint64_t* out) noexcept;

// For each of so many bundles, which of its words hold an item: bit w of byte g tells of words[g][w].
void held_words(const uint64_t* words, int64_t bundles, uint8_t* held) noexcept;

// Leaves those of ascending positions whose bit of a row is as wanted, in their order, and returns how many. signature:
// [.., stride words] of all bundles.
int64_t narrow_by_row(const uint64_t* signature, int64_t stride, int32_t row, bool wanted, int32_t* positions,
                      int64_t count) noexcept;

}  // namespace meshfold
