// kernels/filter/capped.py
#include <string>
#include <vector>

#include "native/entry.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

// Number of kept results with each value.
class Kept {
 public:
  // values: most distinct values.
  explicit Kept(int64_t values) {
    size_t size = 16;
    while (size < 2 * static_cast<size_t>(values)) size *= 2;
    slots_.resize(size);
  }

  int64_t& operator[](int64_t value) {
    size_t at = static_cast<uint64_t>(value) * 0x9E3779B97F4A7C15 >> 20;
    for (;; ++at) {
      Slot& slot = slots_[at & (slots_.size() - 1)];
      if (!slot.taken) slot = {value, 0, true};
      if (slot.value == value) return slot.count;
    }
  }

 private:
  struct Slot {
    int64_t value, count;
    bool taken;
  };
  std::vector<Slot> slots_;
};

// Values of items in a field.
class Held {
 public:
  Held(const FilterIndex& index, int64_t field)
      : index_(index), field_(field), column_(index.columns[field]), offsets_(index.offsets[field]) {}

  // The item's values are column[first] to column[last - 1].
  void find(int64_t position, int64_t& first, int64_t& last) const {
    if (offsets_ != nullptr) {
      first = offsets_[position];
      last = offsets_[position + 1];
      return;
    }
    const int64_t word = (position / kBundle * index_.rows + field_) * kWords + position % kBundle / 64;
    first = position;
    last = position + (index_.signature[word] >> position % 64 & 1);
  }

  int64_t value(int64_t at) const {
    return index_.widths[field_] == 4 ? static_cast<const int32_t*>(column_)[at]
                                      : static_cast<const int64_t*>(column_)[at];
  }

 private:
  const FilterIndex& index_;
  int64_t field_;
  const void* column_;
  const int64_t* offsets_;
};

void cap(const Held& held, const int64_t* positions, int64_t k, int64_t limit, bool* stays) {
  int64_t total = 0, first = 0, last = 0;
  for (int64_t i = 0; i < k; ++i) {
    if (positions[i] < 0) continue;
    held.find(positions[i], first, last);
    total += last - first;
  }
  Kept kept(total);
  for (int64_t i = 0; i < k; ++i) {
    if (positions[i] < 0) continue;
    held.find(positions[i], first, last);
    bool stay = true;
    for (int64_t v = first; v < last && stay; ++v) stay = kept[held.value(v)] < limit;
    for (int64_t v = first; v < last && stay; ++v) ++kept[held.value(v)];
    stays[i] = stay;
  }
}

}  // namespace
}  // namespace meshfold

// positions: [B, K]. fields, limits: [B]. stays: [B, K].
MESHFOLD_API int32_t meshfold_capped(const meshfold::FilterIndex* index, const int64_t* positions, int64_t queries,
                                     int64_t k, const int64_t* fields, const int64_t* limits, bool* stays) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t b = 0; b < queries; ++b) {
      const int64_t* const own = positions + b * k;
      for (int64_t i = 0; i < k; ++i) {
        if (own[i] >= index->items) {
          throw Invalid("positions hold " + std::to_string(own[i]) + ", of " + std::to_string(index->items));
        }
        stays[b * k + i] = own[i] >= 0;
      }
      if (fields[b] < 0) continue;
      if (fields[b] >= index->fields || fields[b] >= index->rows) {
        throw Invalid("field " + std::to_string(fields[b]) + " is capped, of " + std::to_string(index->fields));
      }
      cap(Held(*index, fields[b]), own, k, limits[b], stays + b * k);
    }
  });
}
