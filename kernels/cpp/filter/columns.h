// Decides terms of a filter by the exact columns.
#pragma once

#include <algorithm>
#include <cstdint>

#include "filter/compare.h"
#include "filter/compile.h"
#include "filter/sets.h"
#include "native/prefetch.h"

namespace meshfold {

// Whether at least four of 64 items are candidates: then comparing all 64 is faster.
inline bool are_many(uint64_t candidates) {
  for (int i = 0; i < 3; ++i) candidates &= candidates - 1;
  return candidates != 0;
}

// Prefetches the offsets or the value of an item.
inline void prefetch_column(const Term& term, int64_t position) {
  if (term.offsets != nullptr) {
    prefetch_line(term.offsets + position);
  } else {
    prefetch_line(static_cast<const char*>(term.column) + position * term.width);
  }
}

// Terms against exact columns.
class Columns {
 public:
  Columns(const CompiledFilter& code, int64_t items)
      : values_(code.values.data()), words_(code.words.data()), items_(items) {}

  // Keeps the candidates that pass. All are prefetched first, because memory is the bottleneck.
  void decide(const Term& term, int64_t first, Set& among) const {
    if (term.offsets != nullptr) return decide_many(term, first, among);
    const bool few = term.range || term.values <= kFewValues;
    const auto together = [&](int64_t w) {
      return few && are_many(among.words[w]) && first + w * 64 + 64 <= items_;
    };
    for (int64_t w = 0; w < kWords; ++w) {
      if (together(w)) continue;
      for (uint64_t left = among.words[w]; left != 0; left &= left - 1) {
        prefetch(term, first + w * 64 + __builtin_ctzll(left));
      }
    }
    for (int64_t w = 0; w < kWords; ++w) {
      const int64_t at = first + w * 64;
      if (together(w)) {
        among.words[w] &= compared(term, at);
        continue;
      }
      uint64_t passing = 0;
      for (uint64_t left = among.words[w]; left != 0; left &= left - 1) {
        const int j = __builtin_ctzll(left);
        passing |= static_cast<uint64_t>(wanted(term, value(term, at + j))) << j;
      }
      among.words[w] = passing;
    }
  }

  // Whether the item's values, if it has any, pass.
  bool holds(const Term& term, int64_t position) const {
    if (term.offsets == nullptr) return wanted(term, value(term, position));
    return holds_any(term, term.offsets[position], term.offsets[position + 1]);
  }

 private:
  static int64_t value(const Term& term, int64_t at) {
    return term.width == 4 ? static_cast<const int32_t*>(term.column)[at]
                           : static_cast<const int64_t*>(term.column)[at];
  }

  bool holds_any(const Term& term, int64_t begin, int64_t end) const {
    for (int64_t v = begin; v < end; ++v) {
      if (wanted(term, value(term, v))) return true;
    }
    return false;
  }

  bool wanted(const Term& term, int64_t value) const {
    const int64_t* values = values_ + term.first_value;
    if (term.range) return values[0] <= value && value <= values[1];
    if (term.first_word >= 0) {
      const uint64_t at = static_cast<uint64_t>(value) - static_cast<uint64_t>(values[0]);
      if (value < values[0] || value > values[term.values - 1]) return false;
      return words_[term.first_word + at / 64] >> at % 64 & 1;
    }
    if (term.values <= kFewValues) {
      bool any = false;
      for (int32_t v = 0; v < term.values; ++v) any |= values[v] == value;
      return any;
    }
    return std::binary_search(values, values + term.values, value);
  }

  // Bits of the 64 items that pass, if they have the field.
  uint64_t compared(const Term& term, int64_t at) const {
    const int64_t* values = values_ + term.first_value;
    const int32_t step = term.range ? 2 : 1;
    uint64_t bits = 0;
    for (int32_t v = 0; v < term.values; v += step) {
      const int64_t low = values[v], high = values[v + step - 1];
      if (term.width == 8) {
        bits |= compare_.between64(static_cast<const int64_t*>(term.column) + at, low, high);
      } else {
        bits |= compare_.between32(static_cast<const int32_t*>(term.column) + at, static_cast<int32_t>(low),
                                   static_cast<int32_t>(high));
      }
    }
    return bits;
  }

  // decide() for a field of many values.
  void decide_many(const Term& term, int64_t first, Set& among) const {
    int64_t candidates = 0;
    int16_t places[kBundle];
    for (int64_t w = 0; w < kWords; ++w) {
      for (uint64_t left = among.words[w]; left != 0; left &= left - 1) {
        places[candidates] = static_cast<int16_t>(w * 64 + __builtin_ctzll(left));
        prefetch_line(term.offsets + first + places[candidates++]);
      }
    }
    int64_t begin[kBundle], end[kBundle];
    for (int64_t c = 0; c < candidates; ++c) {
      begin[c] = term.offsets[first + places[c]];
      end[c] = term.offsets[first + places[c] + 1];
      prefetch(term, begin[c]);
    }
    bool passing[kBundle];
    const int64_t* values = values_ + term.first_value;
    if (term.values > kFewValues) {
      for (int64_t c = 0; c < candidates; ++c) passing[c] = holds_any(term, begin[c], end[c]);
    } else if (term.width == 4) {
      compare_.any_of32(static_cast<const int32_t*>(term.column), begin, end, candidates, values, term.values,
                        passing);
    } else {
      compare_.any_of64(static_cast<const int64_t*>(term.column), begin, end, candidates, values, term.values,
                        passing);
    }
    fill(among, 0);
    for (int64_t c = 0; c < candidates; ++c) {
      among.words[places[c] / 64] |= static_cast<uint64_t>(passing[c]) << places[c] % 64;
    }
  }

  static void prefetch(const Term& term, int64_t at) {
    prefetch_line(static_cast<const char*>(term.column) + at * term.width);
  }

  const int64_t* values_;
  const uint64_t* words_;
  int64_t items_;
  const Comparisons& compare_ = comparisons();
};

}  // namespace meshfold
