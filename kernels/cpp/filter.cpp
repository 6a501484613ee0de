#include "filter.h"

#include <algorithm>
#include <string>

#include "entry.h"
#include "evaluator.h"

namespace meshfold {
namespace {

// Rows of a bundle, and bundles, that are asked for ahead.
constexpr size_t kRowsAhead = 16;
constexpr int64_t kBundlesAhead = 6;

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
  Evaluator evaluator(index_, code_, first);
  for (int64_t g = first; g < last; ++g) {
    if (g + kBundlesAhead < last) prefetch(g + kBundlesAhead);
    Set found;
    evaluator.passing(g, existing(g), found);
    exclude(g, found);
    store(out + (g - first) * kWords, found);
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
