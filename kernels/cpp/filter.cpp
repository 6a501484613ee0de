// A query's program runs twice over a bundle. First over the signature, with pairs of sets as in
// kernels/filter_mask.py: `sure` holds no item that fails, `maybe` every item that passes. Then over what lies between,
// where terms read the exact columns; each operator passes on the items on which its other side matters.
#include "filter.h"

#include <algorithm>
#include <string>

#include "columns.h"
#include "entry.h"
#include "isa.h"
#include "sets.h"

namespace meshfold {
namespace {

// Rows, bundles and items that are asked for ahead.
constexpr size_t kRowsAhead = 16;
constexpr int32_t kItemRowsAhead = 4;
constexpr int64_t kBundlesAhead = 6, kItemsAhead = 16;
// Lists are followed where they hold fewer than one item in so many; where the rest of the filter is to be asked of each
// of their items, that costs as much as asking it of a bundle.
constexpr int64_t kItemsPerStep = 64, kItemsPerQuestion = kBundle;
// Lists whose union is sorted where it holds fewer than one item in so many; else it is a set of bits first.
constexpr int64_t kItemsPerSorted = 1024;

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

MESHFOLD_INLINE void among(const uint64_t* row, Set& out) {
  Set other;
  load(other, row);
  intersect(out, other);
}

MESHFOLD_INLINE void candidates(const Bundle& bundle, const Term& term, Set& out) {
  fill(out, 0);
  const int32_t* ends = bundle.group_ends + term.first_group;
  for (int32_t g = 0; g < term.groups; ++g) {
    Set all;
    load(all, bundle.signature + bundle.rows[ends[g]] * kWords);
    for (int32_t r = ends[g] + 1; r < ends[g + 1]; ++r) among(bundle.signature + bundle.rows[r] * kWords, all);
    unite(out, all);
  }
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

// The second run: stack[0] holds those of `everyone` that pass, and nothing certain of the others.
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
        // A column of one value holds some integer for an item without the field, too.
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

// One copy of both runs for each level.
using Bounds = void (*)(const Bundle&, Set*);
using Exactly = void (*)(const Bundle&, const Columns&, int64_t, const Set&, Set*, Set*);

void bounds_plain(const Bundle& bundle, Set* stack) { bounds_of(bundle, stack); }
void exactly_plain(const Bundle& bundle, const Columns& columns, int64_t first, const Set& everyone, Set* stack,
                   Set* end) {
  exactly(bundle, columns, first, everyone, stack, end);
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void bounds_avx2(const Bundle& bundle, Set* stack) { bounds_of(bundle, stack); }
MESHFOLD_AVX2 void exactly_avx2(const Bundle& bundle, const Columns& columns, int64_t first,
                                const Set& everyone, Set* stack, Set* end) {
  exactly(bundle, columns, first, everyone, stack, end);
}

MESHFOLD_AVX512 void bounds_avx512(const Bundle& bundle, Set* stack) { bounds_of(bundle, stack); }
MESHFOLD_AVX512 void exactly_avx512(const Bundle& bundle, const Columns& columns, int64_t first,
                                    const Set& everyone, Set* stack, Set* end) {
  exactly(bundle, columns, first, everyone, stack, end);
}

#endif

Bounds bounds_for(Isa level) {
#if MESHFOLD_X86
  if (level == Isa::avx512) return bounds_avx512;
  if (level == Isa::avx2) return bounds_avx2;
#endif
  (void)level;
  return bounds_plain;
}

Exactly exactly_for(Isa level) {
#if MESHFOLD_X86
  if (level == Isa::avx512) return exactly_avx512;
  if (level == Isa::avx2) return exactly_avx2;
#endif
  (void)level;
  return exactly_plain;
}

// floor((2 i + 1) n / (2 size)), where n (2 i + 1) may not fit.
int64_t sample_position(int64_t i, int64_t n, int64_t size) {
  const int64_t odd = 2 * i + 1, parts = 2 * size;
  return n / parts * odd + n % parts * odd / parts;
}

}  // namespace

Filter::Filter(const FilterIndex& index, const Programs& programs, int64_t query)
    : index_(index), code_(compile(index, programs, query)) {
  const int64_t* excluded = programs.excluded + query * programs.excluded_count;
  for (int64_t e = 0; e < programs.excluded_count; ++e) {
    if (excluded[e] >= index.items) {
      throw Invalid("position " + std::to_string(excluded[e]) + " is excluded, of " +
                    std::to_string(index.items));
    }
    if (excluded[e] >= 0) excluded_.push_back(excluded[e]);
  }
  std::sort(excluded_.begin(), excluded_.end());
  constant_ = code_.terms.empty();
  passes_ = constant_ && passes(0);
}

void Filter::bundles(int64_t first, int64_t last, uint64_t* out) const {
  if (first == last) return;
  if (constant_) {
    for (int64_t g = first; g < last; ++g) {
      Set found = passes_ ? existing(g) : Set{};
      hand_over(g, found, out + (g - first) * kWords);
    }
    return;
  }
  // What every bundle needs is fetched once.
  const Bounds bounds = bounds_for(isa());
  const Exactly exactly = exactly_for(isa());
  const Columns columns(code_, index_.items);
  auto* stack = static_cast<Set*>(__builtin_alloca_with_align(code_.depth * sizeof(Set), 8 * sizeof(Set)));
  Bundle bundle{code_.steps.data(), static_cast<int64_t>(code_.steps.size()), code_.terms.data(),
                code_.group_ends.data(), code_.rows.data(), code_.bits.data(), code_.spans.data(), nullptr, nullptr, 0};
  const size_t spans = code_.spans.size();
  bundle.cursors = static_cast<const int32_t**>(__builtin_alloca((spans + 1) * sizeof(const int32_t*)));
  for (size_t s = 0; s < spans; ++s) {
    bundle.cursors[s] = std::lower_bound(code_.spans[s].first, code_.spans[s].last, first * kBundle);
  }
  for (int64_t g = first; g < last; ++g) {
    if (g + kBundlesAhead < last) prefetch(g + kBundlesAhead);
    bundle.signature = index_.signature + g * index_.rows * kWords;
    bundle.at = g;
    const Set exist = existing(g);
    Set found{}, matter = exist;
    if (!code_.exact) {
      bounds(bundle, stack);
      found = stack[0];
      intersect(found, exist);
      intersect(matter, stack[1]);
      subtract(matter, found);
    }
    if (!is_empty(matter)) {
      exactly(bundle, columns, g * kBundle, matter, stack, stack + code_.depth);
      intersect(stack[0], matter);
      unite(found, stack[0]);
    }
    hand_over(g, found, out + (g - first) * kWords);
  }
}

Set Filter::existing(int64_t g) const {
  Set exist;
  fill(exist, ~uint64_t{0});
  if ((g + 1) * kBundle <= index_.items) return exist;
  for (int w = 0; w < kWords; ++w) {
    const int64_t left = index_.items - g * kBundle - w * 64;
    exist.words[w] = left >= 64 ? ~uint64_t{0} : left > 0 ? (uint64_t{1} << left) - 1 : 0;
  }
  return exist;
}

void Filter::hand_over(int64_t g, Set& found, uint64_t* out) const {
  if (!excluded_.empty()) {
    const int64_t first = g * kBundle;
    auto next = std::lower_bound(excluded_.begin(), excluded_.end(), first);
    for (; next != excluded_.end() && *next < first + kBundle; ++next) {
      found.words[(*next - first) / 64] &= ~(uint64_t{1} << (*next - first) % 64);
    }
  }
  store(out, found);
}

void Filter::prefetch(int64_t g) const {
  const uint64_t* signature = index_.signature + g * index_.rows * kWords;
  const size_t rows = std::min(code_.rows.size(), kRowsAhead);
  for (size_t r = 0; r < rows; ++r) __builtin_prefetch(signature + code_.rows[r] * kWords);
}

bool Filter::item(int64_t position) const {
  return passes(position) && !std::binary_search(excluded_.begin(), excluded_.end(), position);
}

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
    if (term.offsets != nullptr) {
      __builtin_prefetch(term.offsets + position);
    } else {
      __builtin_prefetch(static_cast<const char*>(term.column) + position * term.width);
    }
    const int32_t begin = code_.group_ends[term.first_group];
    const int32_t end = code_.group_ends[term.first_group + term.groups];
    for (int32_t r = begin; r < std::min(end, begin + kItemRowsAhead); ++r) {
      __builtin_prefetch(signature + code_.rows[r] * kWords);
    }
  }
}

int64_t Filter::sampled() const {
  const int64_t n = index_.items, size = std::min(n, kSample);
  const auto position = [&](int64_t i) { return sample_position(i, n, size); };
  if (constant_ && (!passes_ || excluded_.empty())) return passes_ ? size : 0;
  int64_t passing = 0;
  for (int64_t i = 0; i < size; ++i) {
    if (i + kItemsAhead < size) prefetch_item(position(i + kItemsAhead));
    passing += item(position(i));
  }
  return passing;
}

bool Filter::has_lists() const {
  const int64_t items_each = code_.terms.size() == 1 ? kItemsPerStep : kItemsPerQuestion;
  return code_.bound >= 0 && code_.bound <= index_.items / items_each;
}

int64_t Filter::listed(std::vector<int32_t>& positions) const {
  candidates(positions);
  const int64_t n = index_.items, size = std::min(n, kSample);
  const bool all_pass = code_.terms.size() == 1 && code_.steps.size() == 1 && excluded_.empty();
  if (!all_pass) {
    const int32_t sure = code_.conjunct ? code_.drivers.front() : -1;
    const auto count = static_cast<int64_t>(positions.size());
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (i + kItemsAhead < count) prefetch_item(positions[i + kItemsAhead]);
      const int32_t position = positions[i];
      positions[kept] = position;
      kept += passes(position, sure) && !std::binary_search(excluded_.begin(), excluded_.end(), position);
    }
    positions.resize(kept);
  }
  int64_t sampled = 0;
  for (const int32_t position : positions) {
    // The place in the sample if it is there: this one or the next.
    const int64_t i = static_cast<int64_t>(position) * size / n;
    sampled += sample_position(i, n, size) == position || (i + 1 < size && sample_position(i + 1, n, size) == position);
  }
  return sampled;
}

// What the lists that lead to the eligible hold, ascending.
void Filter::candidates(std::vector<int32_t>& positions) const {
  positions.clear();
  positions.reserve(code_.bound);
  const auto add_bits = [&](const uint64_t* bits) {
    const int64_t words = (index_.items + 63) / 64;
    for (int64_t w = 0; w < words; ++w) {
      for (uint64_t left = bits[w]; left != 0; left &= left - 1) {
        positions.push_back(static_cast<int32_t>(w * 64 + __builtin_ctzll(left)));
      }
    }
  };
  size_t parts = 0;
  for (const int32_t driver : code_.drivers) {
    const Term& term = code_.terms[driver];
    if (term.first_bits >= 0) {
      add_bits(code_.bits.data() + term.first_bits);
      ++parts;
      continue;
    }
    for (int32_t s = term.first_span; s < term.first_span + term.spans; ++s, ++parts) {
      positions.insert(positions.end(), code_.spans[s].first, code_.spans[s].last);
    }
  }
  if (parts < 2) return;
  if (code_.bound < index_.items / kItemsPerSorted) {
    std::sort(positions.begin(), positions.end());
    positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
    return;
  }
  std::vector<uint64_t> bits((index_.items + 63) / 64);
  for (const int32_t position : positions) bits[position >> 6] |= uint64_t{1} << (position & 63);
  positions.clear();
  add_bits(bits.data());
}

}  // namespace meshfold
