// Evaluates a filter for bundles, in two runs. The first reads the signature, with pairs of sets as in
// kernels/filter/mask.py: `sure` holds no item that fails, `maybe` every item that passes. The second decides on the
// items between, with exact columns; each operator passes on the items for which its other operand matters.
#pragma once

#include <cstdint>
#include <vector>

#include "filter/columns.h"
#include "filter/compile.h"
#include "filter/sets.h"
#include "native/meshfold.h"

namespace meshfold {

class Evaluator {
 public:
  // Bundles must be evaluated in ascending order from `first` on. Borrows both.
  Evaluator(const FilterIndex& index, const CompiledFilter& code, int64_t first);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  // found: the items of `everyone`, a set of bundle g, that pass.
  void passing(int64_t g, const Set& everyone, Set& found);

  // The same by the second run alone, which is faster for few items.
  void exactly(int64_t g, const Set& everyone, Set& found);

  // The input of both runs.
  struct Bundle {
    const Step* steps;
    int64_t length;
    const Term* terms;
    const int32_t* group_ends;
    const int32_t* rows;
    const uint64_t* bits;
    const Span* spans;
    const int32_t** cursors;    // [spans] - earlier positions are before this bundle
    const uint64_t* signature;  // [R, 8] of this bundle
    int64_t at;                 // its number
  };

 private:
  // Most sets that need no allocation.
  static constexpr int64_t kFewSets = 16;

  void at(int64_t g);

  const FilterIndex& index_;
  const CompiledFilter& code_;
  const Columns columns_;
  Bundle bundle_;
  std::vector<const int32_t*> cursors_;
  std::vector<Set> many_;
  Set* stack_;
  Set few_[kFewSets];
};

}  // namespace meshfold
