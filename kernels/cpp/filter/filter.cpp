#include "filter/filter.h"

#include <algorithm>
#include <string>

#include "filter/columns.h"
#include "filter/evaluator.h"
#include "filter/rows.h"
#include "native/entry.h"
#include "native/prefetch.h"

namespace meshfold {
namespace {

// Bundles whose candidates of a single term are gathered and checked together. A bundle with a candidate in each of its
// words is checked at once, by itself.
constexpr int64_t kTogether = 16;
constexpr uint8_t kEveryWord = (1u << kWords) - 1;
// Most rows of an item to prefetch.
constexpr int32_t kItemRowsAhead = 4;
// Prefetch distance in posting lists, and in items that are checked one by one.
constexpr int64_t kPostingsAhead = 64, kItemsAhead = 16;
// Posting lists are walked where they have fewer than one in kItemsPerPosting items; where columns must also check each
// of their items, which costs as much as checking a bundle, fewer than one in kItemsPerCheck.
constexpr int64_t kItemsPerPosting = 64, kItemsPerCheck = kBundle;
// The union of posting lists is sorted where it has fewer than one in kItemsPerSorted items; else a bitmap merges them.
constexpr int64_t kItemsPerSorted = 1024;

}  // namespace

Filter::Filter(const FilterIndex& index, const FilterBatch& filters, int64_t query)
    : index_(index), code_(compile(index, filters, query)) {
  const int64_t* excluded = filters.excluded + query * filters.excluded_count;
  for (int64_t e = 0; e < filters.excluded_count; ++e) {
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
      exclude(g, found);
      store(out + (g - first) * kWords, found);
    }
    return;
  }
  if (code_.steps.size() == 1) {
    const Term& term = code_.terms[code_.steps[0].term];
    if (!term.range) return single_term(term, first, last, out);
  }
  Evaluator evaluator(index_, code_, first);
  for (int64_t g = first; g < last; ++g) {
    if (g + kBundlesAhead < last) prefetch(g + kBundlesAhead);
    Set found;
    evaluator.passing(g, existing(g), found);
    exclude(g, found);
    store(out + (g - first) * kWords, found);
  }
}

// Evaluates a filter of one term: by its posting lists, or by its signature rows and then its column.
void Filter::single_term(const Term& term, int64_t first, int64_t last, uint64_t* out) const {
  if (term.listed()) {
    mark(term, first, last, out);
    return clip(first, last, out);
  }
  const RowGroups groups{code_.rows.data(), code_.group_ends.data() + term.first_group, term.groups};
  const int64_t stride = index_.rows * kWords;
  for (int64_t begin = first; begin < last; begin += kTogether) {
    const int64_t end = std::min(begin + kTogether, last);
    uint64_t* const to = out + (begin - first) * kWords;
    in_rows(index_.signature + begin * stride, stride, groups, end - begin, last - begin, to);
    clip(begin, end, to);
    if (term.checked) check(term, begin, end, to);
  }
}

// Clears the bits of excluded items and of positions beyond the last item.
void Filter::clip(int64_t first, int64_t last, uint64_t* words) const {
  if (excluded_.empty() && last * kBundle <= index_.items) return;
  for (int64_t g = first; g < last; ++g, words += kWords) {
    Set found;
    load(found, words);
    intersect(found, existing(g));
    exclude(g, found);
    store(words, found);
  }
}

// Clears the bits of candidates that fail by the column, in at most kTogether bundles. All values are prefetched before
// the first is read.
void Filter::check(const Term& term, int64_t first, int64_t last, uint64_t* words) const {
  const Columns columns(code_, index_.items);
  // Bit mask of words with a candidate. Most bundles have at most one such word, which branches would mispredict.
  uint64_t nonempty[kTogether / kWords] = {};
  uint8_t of_bundle[kTogether];
  nonempty_words(words, last - first, of_bundle);
  for (int64_t g = first; g < last; ++g) {
    const int64_t at = g - first;
    if (of_bundle[at] != kEveryWord) {
      nonempty[at / kWords] |= uint64_t{of_bundle[at]} << at % kWords * kWords;
      continue;
    }
    Set found;
    load(found, words + at * kWords);
    among(index_.signature + (g * index_.rows + term.field) * kWords, found);
    columns.decide(term, g * kBundle, found);
    store(words + at * kWords, found);
  }
  int32_t waiting[kTogether * (kBundle - 64)];
  int64_t count = 0;
  for (int64_t i = 0; i < kTogether / kWords; ++i) {
    for (uint64_t some = nonempty[i]; some != 0; some &= some - 1) {
      const int64_t w = i * 64 + __builtin_ctzll(some);
      uint64_t left = words[w];
      do {
        const int64_t position = first * kBundle + w * 64 + __builtin_ctzll(left);
        prefetch_column(term, position);
        waiting[count++] = static_cast<int32_t>(position);
        left &= left - 1;
      } while (left != 0);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = waiting[i];
    const uint64_t* presence = index_.signature + (position / kBundle * index_.rows + term.field) * kWords;
    const bool holds = columns.holds(term, position) && (presence[position % kBundle / 64] >> position % 64 & 1);
    uint64_t& word = words[position / 64 - first * kWords];
    word &= ~(static_cast<uint64_t>(!holds) << position % 64);
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

void Filter::exclude(int64_t g, Set& found) const {
  if (excluded_.empty()) return;
  const int64_t first = g * kBundle;
  auto next = std::lower_bound(excluded_.begin(), excluded_.end(), first);
  for (; next != excluded_.end() && *next < first + kBundle; ++next) {
    found.words[(*next - first) / 64] &= ~(uint64_t{1} << (*next - first) % 64);
  }
}

void Filter::prefetch(int64_t g) const {
  const uint64_t* signature = index_.signature + g * index_.rows * kWords;
  const size_t rows = std::min<size_t>(code_.rows.size(), kRowsAhead);
  for (size_t r = 0; r < rows; ++r) prefetch_line(signature + code_.rows[r] * kWords);
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
  // A stack of values: whether the item passes a part of the filter, or the count of an AT_LEAST.
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
      prefetch_line(signature + code_.rows[r] * kWords);
    }
  }
}

bool Filter::has_lists() const {
  return code_.bound >= 0 && code_.bound <= index_.items / (code_.decided ? kItemsPerPosting : kItemsPerCheck);
}

void Filter::listed(std::vector<int32_t>& positions) const {
  candidates(positions);
  for (const Narrowing& narrowing : code_.narrowing) narrow(narrowing, positions);
  if (!code_.decided || !excluded_.empty()) check_each(positions);
}

// Sets the bits of the items in a term's posting lists, in bundles first to last - 1, and clears the others.
void Filter::mark(const Term& term, int64_t first, int64_t last, uint64_t* out) const {
  if (term.first_bits >= 0) {
    std::copy_n(code_.bits.data() + term.first_bits + first * kWords, (last - first) * kWords, out);
    return;
  }
  std::fill_n(out, (last - first) * kWords, 0);
  const auto span = static_cast<uint64_t>((last - first) * kBundle);
  for (int32_t s = term.first_span; s < term.first_span + term.spans; ++s) {
    const int32_t* const end = code_.spans[s].last;
    const int32_t* at = std::lower_bound(code_.spans[s].first, end, first * kBundle);
    for (; at != end; ++at) {
      const auto place = static_cast<uint64_t>(*at - first * kBundle);
      if (place >= span) break;
      out[place / 64] |= uint64_t{1} << place % 64;
    }
  }
}

// Keeps the positions of items that pass, or if negated fail, a term by its signature rows.
void Filter::narrow(const Narrowing& narrowing, std::vector<int32_t>& positions) const {
  const Term& term = code_.terms[narrowing.term];
  const int32_t* ends = code_.group_ends.data() + term.first_group;
  const int32_t* rows = code_.rows.data();
  const int32_t first = ends[0], last = ends[term.groups];
  const int64_t stride = index_.rows * kWords;
  int32_t* const at = positions.data();
  auto count = static_cast<int64_t>(positions.size());
  if (last - first == 1 || (term.groups == 1 && !narrowing.negated)) {
    for (int32_t r = first; r < last; ++r) {
      count = narrow_by_row(index_.signature, stride, rows[r], !narrowing.negated, at, count);
    }
    return positions.resize(count);
  }
  // The word of row 0 that contains a position.
  const auto word = [&](uint32_t position) {
    return index_.signature + position / kBundle * stride + position % kBundle / 64;
  };
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kPostingsAhead < count) {
      const uint64_t* later = word(at[i + kPostingsAhead]);
      for (int32_t r = first; r < last; ++r) prefetch_line(later + rows[r] * kWords);
    }
    const int32_t position = at[i];
    const uint64_t* own = word(position);
    uint64_t any = 0;
    for (int32_t g = 0; g < term.groups; ++g) {
      uint64_t all = ~uint64_t{0};
      for (int32_t r = ends[g]; r < ends[g + 1]; ++r) all &= own[rows[r] * kWords];
      any |= all;
    }
    at[kept] = position;
    kept += (any >> (position & 63) & 1) != narrowing.negated;
  }
  positions.resize(kept);
}

// Keeps the positions of items that pass the whole filter and are not excluded.
void Filter::check_each(std::vector<int32_t>& positions) const {
  const int32_t sure = code_.conjunct ? code_.drivers.front() : -1;
  const auto count = static_cast<int64_t>(positions.size());
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kItemsAhead < count) prefetch_item(positions[i + kItemsAhead]);
    const int32_t position = positions[i];
    positions[kept] = position;
    kept += (code_.decided || passes(position, sure)) &&
            !std::binary_search(excluded_.begin(), excluded_.end(), position);
  }
  positions.resize(kept);
}

// The items in the posting lists of the driving terms, ascending and without duplicates.
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
