#include "filter.h"

#include <algorithm>
#include <string>

#include "columns.h"
#include "entry.h"
#include "evaluator.h"

namespace meshfold {
namespace {

// Rows of a bundle, and bundles, that are asked for ahead.
constexpr size_t kRowsAhead = 16;
constexpr int64_t kBundlesAhead = 6;
// Of one term: bundles whose candidates wait together, except of those where each word holds one.
constexpr int64_t kTogether = 16;
constexpr uint32_t kEveryWord = (1u << kWords) - 1;

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
    if (term.checked && !term.range) return alone(term, first, last, out);
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

// A program of one term by its rows, then by its column: all candidates of some bundles are on their way before the first
// is looked at.
void Filter::alone(const Term& term, int64_t first, int64_t last, uint64_t* out) const {
  const Columns columns(code_, index_.items);
  const int32_t* ends = code_.group_ends.data() + term.first_group;
  const int32_t* rows = code_.rows.data();
  int32_t waiting[kTogether * (kBundle - 64)];
  for (int64_t begin = first; begin < last; begin += kTogether) {
    const int64_t end = std::min(begin + kTogether, last);
    int64_t count = 0;
    for (int64_t g = begin; g < end; ++g) {
      if (g + kBundlesAhead < last) prefetch(g + kBundlesAhead);
      const uint64_t* signature = index_.signature + g * index_.rows * kWords;
      Set found{};
      for (int32_t group = 0; group < term.groups; ++group) {
        Set all;
        load(all, signature + rows[ends[group]] * kWords);
        for (int32_t r = ends[group] + 1; r < ends[group + 1]; ++r) among(signature + rows[r] * kWords, all);
        unite(found, all);
      }
      intersect(found, existing(g));
      exclude(g, found);
      uint64_t* const to = out + (g - first) * kWords;
      store(to, found);
      // Which words hold a candidate: mostly none or one, and no branch foretells which.
      uint32_t some = 0;
      for (int w = 0; w < kWords; ++w) some |= static_cast<uint32_t>(to[w] != 0) << w;
      if (some == kEveryWord) {
        among(signature + term.field * kWords, found);
        columns.decide(term, g * kBundle, found);
        store(to, found);
        continue;
      }
      for (; some != 0; some &= some - 1) {
        const int w = __builtin_ctz(some);
        for (uint64_t left = to[w]; left != 0; left &= left - 1) {
          const int64_t position = g * kBundle + w * 64 + __builtin_ctzll(left);
          prefetch_column(term, position);
          waiting[count++] = static_cast<int32_t>(position);
        }
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = waiting[i];
      const uint64_t* presence = index_.signature + (position / kBundle * index_.rows + term.field) * kWords;
      const bool holds = columns.holds(term, position) && (presence[position % kBundle / 64] >> position % 64 & 1);
      uint64_t& word = out[position / 64 - first * kWords];
      word &= ~(static_cast<uint64_t>(!holds) << position % 64);
    }
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
  const size_t rows = std::min(code_.rows.size(), kRowsAhead);
  for (size_t r = 0; r < rows; ++r) __builtin_prefetch(signature + code_.rows[r] * kWords);
}

}  // namespace meshfold
