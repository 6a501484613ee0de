// Posting lists that lead to the eligible.
#include <algorithm>

#include "ahead.h"
#include "filter.h"
#include "rows.h"

namespace meshfold {
namespace {

// Postings, and items of which more is asked, that are asked for ahead.
constexpr int64_t kPostingsAhead = 64, kItemsAhead = 16;
// Lists are followed where they hold fewer than one item in so many; where more than rows of the signature is to be
// asked of each of their items, that costs as much as asking it of a bundle.
constexpr int64_t kItemsPerPosting = 64, kItemsPerQuestion = kBundle;
// Lists whose union is sorted where it holds fewer than one item in so many; else it is a set of bits first.
constexpr int64_t kItemsPerSorted = 1024;

}  // namespace

bool Filter::has_lists() const {
  return code_.bound >= 0 && code_.bound <= index_.items / (code_.told ? kItemsPerPosting : kItemsPerQuestion);
}

void Filter::listed(std::vector<int32_t>& positions) const {
  candidates(positions);
  for (const Narrowing& narrowing : code_.narrowing) narrow(narrowing, positions);
  if (!code_.told || !excluded_.empty()) ask_each(positions);
}

// Sets the bits of a term's items, of bundles first to last - 1, and no others.
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

// Leaves those whose rows say so.
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
  // The word of its row 0 that a position lies in.
  const auto word = [&](uint32_t position) {
    return index_.signature + position / kBundle * stride + position % kBundle / 64;
  };
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kPostingsAhead < count) {
      const uint64_t* later = word(at[i + kPostingsAhead]);
      for (int32_t r = first; r < last; ++r) ask_for(later + rows[r] * kWords);
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

void Filter::ask_each(std::vector<int32_t>& positions) const {
  const int32_t sure = code_.conjunct ? code_.drivers.front() : -1;
  const auto count = static_cast<int64_t>(positions.size());
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kItemsAhead < count) prefetch_item(positions[i + kItemsAhead]);
    const int32_t position = positions[i];
    positions[kept] = position;
    kept += (code_.told || passes(position, sure)) &&
            !std::binary_search(excluded_.begin(), excluded_.end(), position);
  }
  positions.resize(kept);
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
