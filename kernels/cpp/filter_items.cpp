// A filter asked of one item at a time.
#include <algorithm>

#include "ahead.h"
#include "columns.h"
#include "filter.h"

namespace meshfold {
namespace {

// Of an item, rows that are asked for ahead.
constexpr int32_t kItemRowsAhead = 4;

}  // namespace

bool Filter::passes(int64_t position, int32_t sure) const {
  const Columns columns(code_, index_.items);
  const auto has_row = [&](int64_t row) {
    const int64_t word = (position / kBundle * index_.rows + row) * kWords + position % kBundle / 64;
    return (index_.signature[word] >> position % 64 & 1) != 0;
  };
  const auto in_rows = [&](const Term& term) {
    for (int32_t g = term.first_group; g < term.first_group + term.groups; ++g) {
      bool all = true;
      for (int32_t r = code_.group_ends[g]; all && r < code_.group_ends[g + 1]; ++r) all = has_row(code_.rows[r]);
      if (all) return true;
    }
    return false;
  };
  // A set of one item, or how many operands of an AT_LEAST it is in.
  auto* stack = static_cast<int64_t*>(__builtin_alloca(code_.depth * sizeof(int64_t)));
  int64_t* top = stack - 1;
  const auto length = static_cast<int64_t>(code_.steps.size());
  for (int64_t i = 0; i < length; ++i) {
    const Step& step = code_.steps[i];
    switch (step.code) {
      case Code::constant:
        *++top = step.value;
        break;
      case Code::rows:
        *++top = in_rows(code_.terms[step.term]);
        break;
      case Code::listed:
      case Code::columns: {
        const Term& term = code_.terms[step.term];
        *++top = step.term == sure || (columns.holds(term, position) && (term.offsets != nullptr || has_row(term.field)));
        break;
      }
      case Code::before_and:
        if (*top == 0) i = step.to - 1;
        break;
      case Code::before_or:
        if (*top != 0) i = step.to - 1;
        break;
      case Code::conjoin:
      case Code::disjoin:
        --top;
        *top = step.code == Code::conjoin ? top[0] & top[1] : top[0] | top[1];
        break;
      case Code::negate:
        *top = *top == 0;
        break;
      case Code::open_count:
        *++top = 0;
        break;
      case Code::add:
        --top;
        *top += top[1];
        break;
      case Code::close_count:
        *top = *top >= step.at_least;
        break;
    }
  }
  return *top != 0;
}

void Filter::prefetch_item(int64_t position) const {
  const uint64_t* signature = index_.signature + position / kBundle * index_.rows * kWords;
  for (const Term& term : code_.terms) {
    if (term.checked || term.listed()) prefetch_column(term, position);
    const int32_t begin = code_.group_ends[term.first_group];
    const int32_t end = code_.group_ends[term.first_group + term.groups];
    for (int32_t r = begin; r < std::min(end, begin + kItemRowsAhead); ++r) {
      ask_for(signature + code_.rows[r] * kWords);
    }
  }
}

}  // namespace meshfold
