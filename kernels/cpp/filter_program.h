// A filter program as the filter runs it: checked against the index, operators told of their operands as they come.
// Opcodes are those of kernels/filter_program.py.
#pragma once

#include <cstdint>
#include <vector>

#include "meshfold.h"

namespace meshfold {

// Wanted values up to which each is compared with an item's.
constexpr int32_t kFewValues = 4;

// A posting list: positions, ascending.
struct Span {
  const int32_t* first;
  const int32_t* last;
};

// A term of a program, checked. Its candidates are the items of any group of rows; a group's rows are ANDed. Or it is
// listed: its items are those of any of its spans, and of a set of bits.
struct Term {
  const void* column;         // [N], or [M] where there are offsets
  const int64_t* offsets;     // [N + 1], null for a field of one value
  int64_t field;              // its row tells who has the field
  int32_t width;              // of a column's integer, 4 or 8
  bool checked;               // its column decides; else its rows or its lists do
  bool range;                 // values[0] <= the item's integer <= values[1]; else it has any of the values, sorted
  int32_t first_group, groups;
  int32_t first_value, values;
  int32_t first_word;         // of bits that tell which integers from values[0] on are wanted; -1 for none
  int32_t first_span, spans;
  int64_t first_bits;         // of a bit for each item; -1 for none
  int64_t postings;           // in its spans, or set in its bits, at most

  bool listed() const { return first_span >= 0 || first_bits >= 0; }
};

enum class Code : int32_t {
  constant,     // value: whether all items or none
  rows,         // term: the candidates are exact
  listed,       // term: its posting lists are exact
  columns,      // term: the columns decide on the candidates
  before_and,   // what is true so far is on top; to: past the operands that are left, where they cannot matter
  conjoin,
  before_or,
  disjoin,
  negate,
  open_count,   // value: bits of the counts of the AT_LEAST that begins
  add,          // value: as above; the operand on top is added to the counts beneath it
  close_count,  // value: as above; at_least: the count from which an item is in
};

struct Step {
  Code code;
  int32_t term, to, value;
  int64_t at_least;
};

// Rows in which every item is that passes; or none, where they are exact and negated.
struct Narrowing {
  int32_t term;
  bool negated;
};

// A program's steps in order, so that nothing of it is left to check.
struct Compiled {
  std::vector<Step> steps;
  std::vector<Term> terms;
  std::vector<int32_t> group_ends;  // in rows, behind one 0
  std::vector<int32_t> rows;
  std::vector<int64_t> values;
  std::vector<uint64_t> words;
  std::vector<Span> spans;
  std::vector<uint64_t> bits;       // [G, 8] for each term that has them
  int64_t depth = 0;                // sets held at a time, at most
  bool exact = true;                // rows and lists alone decide

  // Listed terms of which every item that passes meets one; empty where lists do not tell. bound: their postings.
  std::vector<int32_t> drivers;
  int64_t bound = -1;
  bool conjunct = false;            // whether there is one, and every item that passes meets that one
  std::vector<Narrowing> narrowing;
  bool told = false;                // whether every item passes that meets a driver and is left by all narrowing
};

// Throws Invalid where an opcode, a field, a place, a row or the stack is not what it must be.
Compiled compile(const FilterIndex& index, const Programs& programs, int64_t query);

}  // namespace meshfold
