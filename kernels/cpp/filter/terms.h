// Terms of a filter: checked against the index, with the rows, values and posting lists that they read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "filter/compile.h"
#include "native/meshfold.h"

namespace meshfold {

// Opcodes of kernels/filter/steps.py.
enum Op : int64_t { kNoop, kConstant, kMatch, kPlane, kRange, kExists, kAnd, kOr, kNot, kAtLeast };

// Throws Invalid.
[[noreturn]] void refuse_step(int64_t step, const std::string& why);

class TermBuilder {
 public:
  // Borrows all three.
  TermBuilder(const FilterIndex& index, const FilterBatch& filters, int64_t query, CompiledFilter& code)
      : index_(index),
        value_count_(filters.value_count),
        hashes_(filters.hashes),
        values_(filters.values + query * filters.value_count),
        value_rows_(filters.value_rows + query * filters.value_count * filters.hashes),
        code_(code) {}

  // Adds the term of step i: kMatch, kPlane, kRange or kExists. Returns its place.
  int32_t add(int64_t i, int64_t op, int64_t field, int64_t first, int64_t count);

 private:
  void add_lists(Term& term);
  Span span(int64_t list) const;
  void add_bounds(const Term& term, int64_t low, int64_t high);
  int32_t add_words(const int64_t* values, int32_t count);
  void add_groups(int64_t i, int64_t first, int64_t count);

  const FilterIndex& index_;
  int64_t value_count_, hashes_;
  const int64_t* values_;
  const int64_t* value_rows_;
  CompiledFilter& code_;
};

}  // namespace meshfold
