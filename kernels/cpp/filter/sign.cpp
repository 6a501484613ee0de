// kernels/filter/sign.py
#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "native/entry.h"
#include "native/meshfold.h"
#include "native/prefetch.h"

namespace meshfold {
namespace {

// Prefetch distances in positions for offsets and for values. `order` may be any permutation of the items.
constexpr int64_t kOffsetsAhead = 32, kValuesAhead = 16;

// Mirrored by _Field in kernels/filter/sign.py.
struct SignedField {
  const int64_t* offsets;  // [N + 1]
  const int64_t* values;   // [M]
  const int64_t* planes;   // [P]
  int64_t plane_count;
  int64_t first, part, hashes;
};

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// The plane of a value.
class Planes {
 public:
  explicit Planes(const SignedField& field) : values_(field.planes), count_(field.plane_count) {
    if (count_ == 0 || count_ > 255) return;
    const uint64_t span = static_cast<uint64_t>(values_[count_ - 1]) - static_cast<uint64_t>(values_[0]);
    if (span >= kTableBytes) return;
    table_.resize(span + 1);
    for (int64_t j = 0; j < count_; ++j) {
      const uint64_t at = static_cast<uint64_t>(values_[j]) - static_cast<uint64_t>(values_[0]);
      if (at > span) throw Invalid("planes must ascend");
      table_[at] = static_cast<uint8_t>(j + 1);
    }
  }

  // -1 without a plane.
  int64_t of(int64_t value) const {
    if (count_ == 0) return -1;
    if (!table_.empty()) {
      const uint64_t at = static_cast<uint64_t>(value) - static_cast<uint64_t>(values_[0]);
      return at < table_.size() ? static_cast<int64_t>(table_[at]) - 1 : -1;
    }
    const int64_t* found = std::lower_bound(values_, values_ + count_, value);
    return found != values_ + count_ && *found == value ? found - values_ : -1;
  }

 private:
  static constexpr uint64_t kTableBytes = 1 << 16;

  const int64_t* values_;
  int64_t count_;
  std::vector<uint8_t> table_;  // by value - values[0]: its plane + 1, 0 for none
};

class Signer {
 public:
  Signer(const SignedField* fields, int64_t count, const int64_t* order, int64_t items, int64_t rows, uint64_t* out)
      : fields_(fields), count_(count), order_(order), items_(items), rows_(rows), out_(out) {
    for (int64_t f = 0; f < count; ++f) planes_.emplace_back(fields[f]);
  }

  // Writes bundle g. False, with the bundle unfinished, if a field that has planes but no hashes holds a value
  // without a plane.
  bool bundle(int64_t g) const {
    uint64_t* const words = out_ + g * rows_ * kWords;
    std::fill(words, words + rows_ * kWords, 0);
    const int64_t last = std::min(items_, (g + 1) * kBundle);
    for (int64_t position = g * kBundle; position < last; ++position) {
      prefetch_ahead(position);
      uint64_t* const word = words + position % kBundle / 64;
      const uint64_t bit = uint64_t{1} << position % 64;
      const int64_t place = order_[position];
      for (int64_t f = 0; f < count_; ++f) {
        const SignedField& field = fields_[f];
        const int64_t begin = field.offsets[place], end = field.offsets[place + 1];
        if (begin < end) word[f * kWords] |= bit;
        for (int64_t v = begin; v < end; ++v) {
          const int64_t at = planes_[f].of(field.values[v]);
          if (at >= 0) {
            word[(field.first + at) * kWords] |= bit;
          } else if (field.hashes > 0) {
            hash(field, field.values[v], word, bit);
          } else if (field.plane_count > 0) {
            return false;
          }
        }
      }
    }
    return true;
  }

 private:
  static void hash(const SignedField& field, int64_t value, uint64_t* word, uint64_t bit) {
    const auto part = static_cast<uint64_t>(field.part);
    uint64_t* rows = word + (field.first + field.plane_count) * kWords;
    for (int64_t h = 0; h < field.hashes; ++h, rows += field.part * kWords) {
      const uint64_t salt = mix(static_cast<uint64_t>(h) + 1);
      const uint64_t upper = mix(static_cast<uint64_t>(value) ^ salt) >> 32;
      rows[(upper * part >> 32) * kWords] |= bit;
    }
  }

  void prefetch_ahead(int64_t position) const {
    if (position + kOffsetsAhead < items_) {
      const int64_t place = order_[position + kOffsetsAhead];
      for (int64_t f = 0; f < count_; ++f) prefetch_line(fields_[f].offsets + place);
    }
    if (position + kValuesAhead < items_) {
      const int64_t place = order_[position + kValuesAhead];
      for (int64_t f = 0; f < count_; ++f) prefetch_line(fields_[f].values + fields_[f].offsets[place]);
    }
  }

  const SignedField* fields_;
  int64_t count_;
  const int64_t* order_;
  int64_t items_;
  int64_t rows_;
  uint64_t* out_;
  std::vector<Planes> planes_;
};

}  // namespace
}  // namespace meshfold

// order: [N]. signature: [G, R, 8], every word written.
MESHFOLD_API int32_t meshfold_sign(const void* fields, int64_t count, const int64_t* order, int64_t items,
                                   int64_t rows, uint64_t* signature, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t position = 0; position < items; ++position) {
      if (order[position] < 0 || order[position] >= items) {
        throw Invalid("order holds place " + std::to_string(order[position]) + ", of " + std::to_string(items));
      }
    }
    const Signer signer(static_cast<const SignedField*>(fields), count, order, items, rows, signature);
    const int64_t bundles = (items + kBundle - 1) / kBundle;
    std::atomic<bool> whole{true};
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) if (bundles > 16)
    for (int64_t g = 0; g < bundles; ++g) {
      if (!signer.bundle(g)) whole = false;
    }
    if (!whole) throw Invalid("an item holds a value that has no plane");
  });
}
