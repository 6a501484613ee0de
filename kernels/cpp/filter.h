// One query's filter, ready to be asked: exact answers, a bundle of 512 items or one item at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "filter_program.h"
#include "meshfold.h"
#include "sets.h"

namespace meshfold {

class Filter {
 public:
  // Checks the program of one query against the index: opcodes, fields, places, rows and the stack. Throws Invalid.
  // Borrows both structs.
  Filter(const FilterIndex& index, const Programs& programs, int64_t query);

  // Whether every item passes and none is excluded.
  bool passes_all() const { return constant_ && passes_ && excluded_.empty(); }

  // Bits of the eligible items of bundles first to last - 1, [last - first, 8]: they pass, are not excluded, and
  // exist. Safe from several threads.
  void bundles(int64_t first, int64_t last, uint64_t* out) const;

  // Asks the memory for what bundle g will read first; any g.
  void prefetch(int64_t g) const;

  // Whether posting lists lead to the eligible, and to few enough that following them is faster than any other way.
  bool has_lists() const;

  // The eligible items, ascending, where lists lead to them.
  void listed(std::vector<int32_t>& positions) const;

 private:
  Set existing(int64_t g) const;
  void alone(const Term& term, int64_t first, int64_t last, uint64_t* out) const;
  void clip(int64_t first, int64_t last, uint64_t* words) const;
  void mark(const Term& term, int64_t first, int64_t last, uint64_t* out) const;
  void check(const Term& term, int64_t first, int64_t last, uint64_t* words) const;
  void exclude(int64_t g, Set& found) const;
  // sure: a term that the item is known to meet, -1 for none.
  bool passes(int64_t position, int32_t sure = -1) const;
  void candidates(std::vector<int32_t>& positions) const;
  void narrow(const Narrowing& narrowing, std::vector<int32_t>& positions) const;
  void ask_each(std::vector<int32_t>& positions) const;
  void prefetch_item(int64_t position) const;

  const FilterIndex& index_;
  Compiled code_;
  std::vector<int64_t> excluded_;  // ascending
  bool constant_ = false;          // whether no term is asked: then all items pass, or none
  bool passes_ = false;
};

}  // namespace meshfold
