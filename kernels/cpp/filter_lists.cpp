// Posting lists that lead to the eligible.
#include <algorithm>

#include "filter.h"

namespace meshfold {
namespace {

constexpr int64_t kItemsAhead = 16;
// Lists are followed where they hold fewer than one item in so many; where the rest of the filter is to be asked of each
// of their items, that costs as much as asking it of a bundle.
constexpr int64_t kItemsPerStep = 64, kItemsPerQuestion = kBundle;
// Lists whose union is sorted where it holds fewer than one item in so many; else it is a set of bits first.
constexpr int64_t kItemsPerSorted = 1024;

}  // namespace

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
