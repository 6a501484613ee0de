// The filter of one query, evaluated exactly, for a bundle of 512 items or one item at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "filter/compile.h"
#include "filter/sets.h"
#include "native/meshfold.h"

namespace meshfold {

class Filter {
 public:
  // Compiles the filter of one query and checks it against the index. Throws Invalid. Borrows both structs.
  Filter(const FilterIndex& index, const FilterBatch& filters, int64_t query);

  // Whether every item passes and none is excluded.
  bool passes_all() const { return constant_ && passes_ && excluded_.empty(); }

  // Bits of the eligible items of bundles first to last - 1, [last - first, 8]: items that pass, are not excluded, and
  // exist. Safe from several threads.
  void bundles(int64_t first, int64_t last, uint64_t* out) const;

  // Prefetches the first rows that bundle g reads; any g.
  void prefetch(int64_t g) const;

  // Whether posting lists contain all eligible items, and are so short that walking them is fastest.
  bool has_lists() const;

  // The eligible items, ascending; requires has_lists().
  void listed(std::vector<int32_t>& positions) const;

 private:
  Set existing(int64_t g) const;
  void single_term(const Term& term, int64_t first, int64_t last, uint64_t* out) const;
  void clip(int64_t first, int64_t last, uint64_t* words) const;
  void mark(const Term& term, int64_t first, int64_t last, uint64_t* out) const;
  void check(const Term& term, int64_t first, int64_t last, uint64_t* words) const;
  void exclude(int64_t g, Set& found) const;
  // sure: a term that the item is known to pass; -1 for none.
  bool passes(int64_t position, int32_t sure = -1) const;
  void candidates(std::vector<int32_t>& positions) const;
  void narrow(const Narrowing& narrowing, std::vector<int32_t>& positions) const;
  void check_each(std::vector<int32_t>& positions) const;
  void prefetch_item(int64_t position) const;

  const FilterIndex& index_;
  CompiledFilter code_;
  std::vector<int64_t> excluded_;  // ascending
  bool constant_ = false;          // no terms: all items pass, or none
  bool passes_ = false;
};

}  // namespace meshfold
