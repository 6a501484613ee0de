#include "filter.h"

#include <algorithm>
#include <string>

#include "ahead.h"
#include "columns.h"
#include "entry.h"
#include "evaluator.h"
#include "rows.h"

namespace meshfold {
namespace {

// Of one term: bundles whose candidates wait together, except of those where each word holds one.
constexpr int64_t kTogether = 16;
constexpr uint8_t kEveryWord = (1u << kWords) - 1;

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
      exclude(g, found);
      store(out + (g - first) * kWords, found);
    }
    return;
  }
  if (code_.steps.size() == 1) {
    const Term& term = code_.terms[code_.steps[0].term];
    if (!term.range) return alone(term, first, last, out);
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

// A program of one term, without steps: by its lists; or by its rows, then by its column.
void Filter::alone(const Term& term, int64_t first, int64_t last, uint64_t* out) const {
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

// Leaves those of bundles that exist and are not excluded.
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

// Leaves those of the candidates of at most kTogether bundles that pass by the column; all are on their way before the
// first is looked at.
void Filter::check(const Term& term, int64_t first, int64_t last, uint64_t* words) const {
  const Columns columns(code_, index_.items);
  // Which words hold a candidate: mostly none or one of a bundle, and no branch foretells which.
  uint64_t held[kTogether / kWords] = {};
  uint8_t of_bundle[kTogether];
  held_words(words, last - first, of_bundle);
  for (int64_t g = first; g < last; ++g) {
    const int64_t at = g - first;
    if (of_bundle[at] != kEveryWord) {
      held[at / kWords] |= uint64_t{of_bundle[at]} << at % kWords * kWords;
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
    for (uint64_t some = held[i]; some != 0; some &= some - 1) {
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
  for (size_t r = 0; r < rows; ++r) ask_for(signature + code_.rows[r] * kWords);
}

}  // namespace meshfold
