#include "filter/terms.h"

#include <algorithm>
#include <limits>

#include "native/entry.h"

namespace meshfold {
namespace {

// Most signature rows of a term; more cost as much as its column, which decides at once.
constexpr int64_t kMostRows = 64;
// Most posting lists of a term that are walked one by one. More become a bitmap, if they hold fewer than one in
// kItemsPerPosting items.
constexpr int64_t kFewLists = 8, kItemsPerPosting = 8;
// Most words of such bitmaps in a filter: 64 MiB.
constexpr int64_t kMostBitWords = int64_t{1} << 23;
// Most integers in the range of the values of a term, for each value, to keep them as a bitmap.
constexpr uint64_t kSpanPerValue = 512;

}  // namespace

void refuse_step(int64_t step, const std::string& why) {
  throw Invalid("step " + std::to_string(step) + " of a filter " + why);
}

int32_t TermBuilder::add(int64_t i, int64_t op, int64_t field, int64_t first, int64_t count) {
  if (field < 0 || field >= index_.fields || field >= index_.rows) {
    refuse_step(i, "names field " + std::to_string(field) + " of " + std::to_string(index_.fields));
  }
  if (op == kRange) count = 2;
  if (op == kExists) first = count = 0;
  if (count < 0 || first < 0 || first > value_count_ || count > value_count_ - first) {
    refuse_step(i, "reads " + std::to_string(count) + " values from " + std::to_string(first) + " on, there are " +
                  std::to_string(value_count_));
  }
  Term made{};
  made.column = index_.columns[field];
  made.offsets = index_.offsets[field];
  made.field = field;
  made.width = index_.widths[field];
  made.range = op == kRange;
  if (made.width != 4 && made.width != 8) refuse_step(i, "reads a column of " + std::to_string(made.width) + " bytes");
  if (made.range && made.offsets != nullptr) refuse_step(i, "is a range over a field of many values");
  made.first_group = static_cast<int32_t>(code_.group_ends.size()) - 1;
  made.first_value = static_cast<int32_t>(code_.values.size());
  if (op == kRange) {
    add_bounds(made, values_[first], values_[first + 1]);
  } else if (op != kExists) {
    code_.values.insert(code_.values.end(), values_ + first, values_ + first + count);
    const auto begin = code_.values.begin() + made.first_value;
    std::sort(begin, code_.values.end());
    code_.values.erase(std::unique(begin, code_.values.end()), code_.values.end());
    if (made.width == 4) {
      // A column of 32 bits has no values beyond.
      const auto beyond = [](int64_t value) { return value != static_cast<int32_t>(value); };
      code_.values.erase(std::remove_if(begin, code_.values.end(), beyond), code_.values.end());
    }
    add_groups(i, first, count);
  }
  made.first_bits = made.first_span = -1;
  if (op == kMatch) add_lists(made);
  made.values = static_cast<int32_t>(code_.values.size()) - made.first_value;
  made.first_word = made.range ? -1 : add_words(code_.values.data() + made.first_value, made.values);
  // The row of the field contains all candidates, and is cheaper than many rows.
  const auto rows = static_cast<int64_t>(code_.rows.size()) - code_.group_ends[made.first_group];
  const bool presence = op == kRange || op == kExists || (op == kMatch && rows > kMostRows);
  if (presence || made.listed()) {
    code_.rows.resize(code_.group_ends[made.first_group]);
    code_.group_ends.resize(made.first_group + 1);
  }
  if (presence && !made.listed()) {
    code_.rows.push_back(static_cast<int32_t>(field));
    code_.group_ends.push_back(static_cast<int32_t>(code_.rows.size()));
  }
  made.groups = static_cast<int32_t>(code_.group_ends.size()) - 1 - made.first_group;
  made.checked = (op == kMatch || op == kRange) && !made.listed();
  code_.exact &= !made.checked;
  code_.terms.push_back(made);
  return static_cast<int32_t>(code_.terms.size()) - 1;
}

// Gives a term the posting lists of its values, if its field has lists and they are short enough.
void TermBuilder::add_lists(Term& term) {
  if (index_.list_fields == nullptr) return;
  const int64_t begin = index_.list_fields[term.field], end = index_.list_fields[term.field + 1];
  if (begin < 0 || begin > end || end > index_.lists) throw Invalid("fields of posting lists must ascend to L");
  if (begin == end) return;
  std::vector<Span> found;
  int64_t postings = 0;
  for (auto value = code_.values.begin() + term.first_value; value != code_.values.end(); ++value) {
    const int64_t* at = std::lower_bound(index_.list_values + begin, index_.list_values + end, *value);
    if (at == index_.list_values + end || *at != *value) continue;
    found.push_back(span(at - index_.list_values));
    postings += found.back().last - found.back().first;
  }
  const bool few = static_cast<int64_t>(found.size()) <= kFewLists;
  const int64_t words = (index_.items + kBundle - 1) / kBundle * kWords;
  const int64_t room = kMostBitWords - static_cast<int64_t>(code_.bits.size());
  if (!few && (postings > index_.items / kItemsPerPosting || words > room)) return;
  term.postings = postings;
  if (few) {
    term.first_span = static_cast<int32_t>(code_.spans.size());
    term.spans = static_cast<int32_t>(found.size());
    code_.spans.insert(code_.spans.end(), found.begin(), found.end());
    return;
  }
  term.first_bits = static_cast<int64_t>(code_.bits.size());
  code_.bits.resize(code_.bits.size() + words);
  uint64_t* bits = code_.bits.data() + term.first_bits;
  for (const Span& of_value : found) {
    for (const int32_t* at = of_value.first; at != of_value.last; ++at) {
      // A damaged index must not make it write beyond the bitmap.
      if (*at < 0 || *at >= index_.items) throw Invalid("posting lists must hold positions of items");
      bits[*at >> 6] |= uint64_t{1} << (*at & 63);
    }
  }
}

Span TermBuilder::span(int64_t list) const {
  const int64_t first = index_.list_offsets[list], last = index_.list_offsets[list + 1];
  if (first < 0 || first > last || last > index_.posting_count) {
    throw Invalid("offsets of posting lists must ascend to P");
  }
  if (first < last && (index_.postings[first] < 0 || index_.postings[last - 1] >= index_.items)) {
    throw Invalid("posting lists must hold positions of items, ascending");
  }
  return {index_.postings + first, index_.postings + last};
}

// Bounds within the range of the column; low > high for an empty range.
void TermBuilder::add_bounds(const Term& term, int64_t low, int64_t high) {
  if (term.width == 4) {
    constexpr int64_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
    if (low > most || high < least) low = 1, high = 0;
    low = std::max(low, least), high = std::min(high, most);
  }
  code_.values.push_back(low);
  code_.values.push_back(high);
}

int32_t TermBuilder::add_words(const int64_t* values, int32_t count) {
  if (count <= kFewValues) return -1;
  const uint64_t low = static_cast<uint64_t>(values[0]);
  const uint64_t span = static_cast<uint64_t>(values[count - 1]) - low;
  if (span >= kSpanPerValue * static_cast<uint64_t>(count)) return -1;
  const size_t begin = code_.words.size();
  code_.words.resize(begin + span / 64 + 1);
  for (int32_t v = 0; v < count; ++v) {
    const uint64_t at = static_cast<uint64_t>(values[v]) - low;
    code_.words[begin + at / 64] |= uint64_t{1} << at % 64;
  }
  return static_cast<int32_t>(begin);
}

// Adds the distinct rows of each value as a group, unless the group before has the same rows.
void TermBuilder::add_groups(int64_t i, int64_t first, int64_t count) {
  for (int64_t v = first; v < first + count; ++v) {
    const int64_t* rows = value_rows_ + v * hashes_;
    const auto begin = static_cast<int64_t>(code_.rows.size());
    for (int64_t s = 0; s < hashes_; ++s) {
      if (rows[s] < 0 || rows[s] >= index_.rows) {
        refuse_step(i, "reads row " + std::to_string(rows[s]) + " of " + std::to_string(index_.rows));
      }
      const auto row = static_cast<int32_t>(rows[s]);
      if (std::find(code_.rows.begin() + begin, code_.rows.end(), row) == code_.rows.end()) {
        code_.rows.push_back(row);
      }
    }
    const auto size = static_cast<int64_t>(code_.rows.size()) - begin;
    if (size == 0) refuse_step(i, "has values without rows");
    if (v > first && code_.group_ends.back() - code_.group_ends[code_.group_ends.size() - 2] == size &&
        std::equal(code_.rows.begin() + begin, code_.rows.end(), code_.rows.begin() + begin - size)) {
      code_.rows.resize(begin);
    } else {
      code_.group_ends.push_back(static_cast<int32_t>(code_.rows.size()));
    }
  }
}

}  // namespace meshfold
