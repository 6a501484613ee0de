// Filter steps compiled for evaluation: checked against the index, with cheap operands first and jumps over operands
// that cannot matter.
#pragma once

#include <cstdint>
#include <vector>

#include "native/meshfold.h"

namespace meshfold {

// Most values of a term that are compared one by one with an item's.
constexpr int32_t kFewValues = 4;

// A posting list: positions, ascending.
struct Span {
  const int32_t* first;
  const int32_t* last;
};

// A checked term. Its candidates are the items of any group of rows; the rows of a group are ANDed. A listed term has
// no rows: its items are those of its spans, or of a set of bits.
struct Term {
  const void* column;         // [N], or [M] where there are offsets
  const int64_t* offsets;     // [N + 1], null for a field of one value
  int64_t field;              // its row is set for items that have the field
  int32_t width;              // of a column's integer, 4 or 8
  bool checked;               // whether its column decides; else its rows or lists do
  bool range;                 // values[0] <= the item's integer <= values[1]; else it has any of the values, sorted
  int32_t first_group, groups;
  int32_t first_value, values;
  int32_t first_word;         // first word of a bitmap of the values, from values[0] on; -1 for none
  int32_t first_span, spans;
  int64_t first_bits;         // first word of a bitmap of the items; -1 for none
  int64_t postings;           // at least the items of its spans or bits

  bool listed() const { return first_span >= 0 || first_bits >= 0; }
};

enum class Code : int32_t {
  constant,     // value: 1 for all items, 0 for none
  rows,         // term: its rows are exact
  listed,       // term: its posting lists are exact
  columns,      // term: its column decides on the candidates
  before_and,   // the result so far is on top; to: the step after the remaining operands, if they cannot matter
  conjoin,
  before_or,
  disjoin,
  negate,
  open_count,   // value: bits of the counts of an AT_LEAST
  add,          // value: as above; adds the operand on top to the counts below it
  close_count,  // value: as above; at_least: the least count of an item in the set
};

struct Step {
  Code code;
  int32_t term, to, value;
  int64_t at_least;
};

// A term that every item of the filter meets by its rows; negated: that no such item meets, by exact rows.
struct Narrowing {
  int32_t term;
  bool negated;
};

// A checked filter in the order of evaluation.
struct CompiledFilter {
  std::vector<Step> steps;
  std::vector<Term> terms;
  std::vector<int32_t> group_ends;  // into rows, after one 0
  std::vector<int32_t> rows;
  std::vector<int64_t> values;
  std::vector<uint64_t> words;
  std::vector<Span> spans;
  std::vector<uint64_t> bits;       // [G, 8] for each term that has them
  int64_t depth = 0;                // most sets on the stack
  bool exact = true;                // whether no column is read

  // Listed terms, one of which every item of the filter meets; empty without such terms. bound: their postings, or -1.
  std::vector<int32_t> drivers;
  int64_t bound = -1;
  bool conjunct = false;            // whether there is one driver
  std::vector<Narrowing> narrowing;
  bool decided = false;               // whether drivers and narrowing decide the filter alone
};

// Throws Invalid for a wrong opcode, field, place or row, or an unbalanced stack.
CompiledFilter compile(const FilterIndex& index, const FilterBatch& filters, int64_t query);

}  // namespace meshfold
