// A program asked of bundles. It runs twice over one. First over the signature, with pairs of sets as in
// kernels/filter_mask.py: `sure` holds no item that fails, `maybe` every item that passes. Then over what lies between,
// where terms read the exact columns; each operator passes on the items on which its other side matters.
#pragma once

#include <cstdint>
#include <vector>

#include "columns.h"
#include "filter_program.h"
#include "meshfold.h"
#include "sets.h"

namespace meshfold {

class Evaluator {
 public:
  // Bundles are asked of in ascending order, from `first` on. Borrows both.
  Evaluator(const FilterIndex& index, const Compiled& code, int64_t first);
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  // Those of `everyone`, items of bundle g, that pass.
  void passing(int64_t g, const Set& everyone, Set& found);

  // The same by the second run alone, which is faster where `everyone` is few.
  void exactly(int64_t g, const Set& everyone, Set& found);

  // A bundle as both runs see it.
  struct Bundle {
    const Step* steps;
    int64_t length;
    const Term* terms;
    const int32_t* group_ends;
    const int32_t* rows;
    const uint64_t* bits;
    const Span* spans;
    const int32_t** cursors;    // of each span: none of its positions before lies in this bundle or a later one
    const uint64_t* signature;  // [R, 8] of this bundle
    int64_t at;                 // its number
  };

 private:
  // Sets that are held without memory of their own.
  static constexpr int64_t kFewSets = 16;

  void at(int64_t g);

  const FilterIndex& index_;
  const Compiled& code_;
  const Columns columns_;
  void (*const bounds_)(const Bundle&, Set*);
  void (*const exactly_)(const Bundle&, const Columns&, int64_t, const Set&, Set*, Set*);
  Bundle bundle_;
  std::vector<const int32_t*> cursors_;
  std::vector<Set> many_;
  Set* stack_;
  Set few_[kFewSets];
};

}  // namespace meshfold
