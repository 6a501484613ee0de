#include "filter/evaluator.h"

#include <algorithm>

#include "filter/rows.h"
#include "native/isa.h"

namespace meshfold {
namespace {

using Bundle = Evaluator::Bundle;

MESHFOLD_INLINE void candidates(const Bundle& bundle, const Term& term, Set& out) {
  in_rows(bundle.signature, {bundle.rows, bundle.group_ends + term.first_group, term.groups}, out);
}

// The items of a term's posting lists.
MESHFOLD_INLINE void listed(const Bundle& bundle, const Term& term, Set& out) {
  if (term.first_bits >= 0) {
    load(out, bundle.bits + term.first_bits + bundle.at * kWords);
    return;
  }
  fill(out, 0);
  const int64_t first = bundle.at * kBundle, last = first + kBundle;
  for (int32_t s = term.first_span; s < term.first_span + term.spans; ++s) {
    const int32_t* at = bundle.cursors[s];
    const int32_t* const end = bundle.spans[s].last;
    while (at != end && *at < first) ++at;
    bundle.cursors[s] = at;
    for (; at != end && *at < last; ++at) {
      const auto bit = static_cast<uint32_t>(*at - first) % kBundle;
      out.words[bit / 64] |= uint64_t{1} << bit % 64;
    }
  }
}

// The first run: stack[0] is `sure` and stack[1] is `maybe`. A set and its pair lie side by side.
MESHFOLD_INLINE void bounds_of(const Bundle& bundle, Set* stack) {
  Set* top = stack - 2;
  for (int64_t i = 0; i < bundle.length; ++i) {
    const Step& step = bundle.steps[i];
    switch (step.code) {
      case Code::constant:
        top += 2;
        fill(top[0], step.value ? ~uint64_t{0} : 0);
        top[1] = top[0];
        break;
      case Code::rows:
        top += 2;
        candidates(bundle, bundle.terms[step.term], top[1]);
        top[0] = top[1];
        break;
      case Code::listed:
        top += 2;
        listed(bundle, bundle.terms[step.term], top[1]);
        top[0] = top[1];
        break;
      case Code::columns:
        top += 2;
        candidates(bundle, bundle.terms[step.term], top[1]);
        fill(top[0], 0);
        break;
      case Code::before_and:
        if (is_empty(top[1])) i = step.to - 1;
        break;
      case Code::before_or:
        break;
      case Code::conjoin:
        top -= 2;
        intersect(top[0], top[2]);
        intersect(top[1], top[3]);
        break;
      case Code::disjoin:
        top -= 2;
        unite(top[0], top[2]);
        unite(top[1], top[3]);
        break;
      case Code::negate: {
        const Set sure = top[0];
        top[0] = top[1];
        top[1] = sure;
        complement(top[0]);
        complement(top[1]);
        break;
      }
      case Code::open_count:
        for (int32_t plane = 0; plane < 2 * step.value; ++plane) fill(top[2 + plane], 0);
        top += 2 * step.value;
        break;
      case Code::add:
        top -= 2;
        for (int side = 0; side < 2; ++side) {
          count_in(top + 2 - 2 * step.value + side, step.value, 2, top[2 + side]);
        }
        break;
      case Code::close_count:
        top -= 2 * (step.value - 1);
        for (int side = 0; side < 2; ++side) counted(top + side, step.value, 2, step.at_least);
        break;
    }
  }
}

// The second run: stack[0] is right for the items of `everyone`, and undefined for others.
MESHFOLD_INLINE void exactly(const Bundle& bundle, const Columns& columns, int64_t first, const Set& everyone,
                             Set* stack, Set* end) {
  Set matter = everyone;
  Set* top = stack - 1;
  Set* outer = end;
  for (int64_t i = 0; i < bundle.length; ++i) {
    const Step& step = bundle.steps[i];
    switch (step.code) {
      case Code::constant:
        fill(*++top, step.value ? ~uint64_t{0} : 0);
        break;
      case Code::rows:
        candidates(bundle, bundle.terms[step.term], *++top);
        break;
      case Code::listed:
        listed(bundle, bundle.terms[step.term], *++top);
        break;
      case Code::columns:
        candidates(bundle, bundle.terms[step.term], *++top);
        intersect(*top, matter);
        // A column of one value has an integer even for an item without the field.
        among(bundle.signature + bundle.terms[step.term].field * kWords, *top);
        columns.decide(bundle.terms[step.term], first, *top);
        break;
      case Code::before_and:
      case Code::before_or: {
        Set other = matter;
        if (step.code == Code::before_and) {
          intersect(other, *top);
        } else {
          subtract(other, *top);
        }
        if (is_empty(other)) {
          i = step.to - 1;
        } else {
          *--outer = matter;
          matter = other;
        }
        break;
      }
      case Code::conjoin:
        --top;
        intersect(top[0], top[1]);
        matter = *outer++;
        break;
      case Code::disjoin:
        --top;
        unite(top[0], top[1]);
        matter = *outer++;
        break;
      case Code::negate:
        complement(*top);
        break;
      case Code::open_count:
        for (int32_t plane = 1; plane <= step.value; ++plane) fill(top[plane], 0);
        top += step.value;
        break;
      case Code::add:
        --top;
        count_in(top + 1 - step.value, step.value, 1, top[1]);
        break;
      case Code::close_count:
        top -= step.value - 1;
        counted(top, step.value, 1, step.at_least);
        break;
    }
  }
}

MESHFOLD_FOR_EACH_LEVEL(void, bounds_level, bounds_of, (const Bundle& bundle, Set* stack), (bundle, stack))
MESHFOLD_FOR_EACH_LEVEL(void, exactly_level, exactly,
                        (const Bundle& bundle, const Columns& columns, int64_t first, const Set& everyone, Set* stack,
                         Set* end),
                        (bundle, columns, first, everyone, stack, end))

}  // namespace

Evaluator::Evaluator(const FilterIndex& index, const CompiledFilter& code, int64_t first)
    : index_(index),
      code_(code),
      columns_(code, index.items),
      bundle_{code.steps.data(), static_cast<int64_t>(code.steps.size()), code.terms.data(), code.group_ends.data(),
              code.rows.data(),  code.bits.data(), code.spans.data(), nullptr, nullptr, 0} {
  for (const Span& span : code.spans) cursors_.push_back(std::lower_bound(span.first, span.last, first * kBundle));
  bundle_.cursors = cursors_.data();
  if (code.depth > kFewSets) many_.resize(code.depth);
  stack_ = code.depth > kFewSets ? many_.data() : few_;
}

void Evaluator::passing(int64_t g, const Set& everyone, Set& found) {
  if (code_.exact) return exactly(g, everyone, found);
  at(g);
  bounds_level(bundle_, stack_);
  Set sure = stack_[0], matter = stack_[1];
  intersect(sure, everyone);
  intersect(matter, everyone);
  subtract(matter, sure);
  if (is_empty(matter)) {
    found = sure;
    return;
  }
  exactly(g, matter, found);
  unite(found, sure);
}

void Evaluator::exactly(int64_t g, const Set& everyone, Set& found) {
  at(g);
  exactly_level(bundle_, columns_, g * kBundle, everyone, stack_, stack_ + code_.depth);
  found = stack_[0];
  intersect(found, everyone);
}

void Evaluator::at(int64_t g) {
  bundle_.signature = index_.signature + g * index_.rows * kWords;
  bundle_.at = g;
}

}  // namespace meshfold
