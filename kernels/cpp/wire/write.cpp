// kernels/wire/write.py
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "native/entry.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5, kRaw = 6, kMessage = 7;
constexpr int kUnlessZero = 1, kPacked = 2;

// Field: Layout.native in kernels/wire/columns.py. Column: packed by write() in kernels/wire/write.py. length, count:
// used where lengths, counts are null. bytes: of all strings, 0 for other kinds.
struct Field {
  int64_t tag, kind, form, child;
};
struct Column {
  const uint8_t* values;
  const int64_t* lengths;
  const int64_t* counts;
  int64_t length, count, total, bytes;
};
static_assert(sizeof(Column) == 7 * sizeof(int64_t), "a column is seven numbers");

class Writer {
 public:
  Writer(const WireLayout& layout, const Column* columns, uint8_t* buffer, int64_t capacity)
      : fields_(reinterpret_cast<const Field*>(layout.fields)), starts_(layout.starts), columns_(columns),
        begin_(buffer), at_(buffer + capacity), instances_(layout.messages), values_(starts_[layout.messages]),
        bytes_(starts_[layout.messages]) {
    instances_[0] = 1;
    for (size_t f = 0; f < values_.size(); ++f) {
      values_[f] = columns[f].total;
      bytes_[f] = columns[f].bytes;
      check(columns[f]);
      if (fields_[f].child > 0) instances_[fields_[f].child] = columns[f].total;
    }
  }

  // Where the message begins; it ends with the buffer.
  int64_t run() {
    message(0);
    return at_ - begin_;
  }

 private:
  // Throws unless the lengths of a column of strings add up to its bytes.
  static void check(const Column& column) {
    if (column.lengths == nullptr) return;
    int64_t bytes = 0;
    for (int64_t i = 0; i < column.total; ++i) {
      const int64_t length = column.lengths[i];
      if (length < 0 || length > column.bytes - bytes) bytes = column.bytes + 1;
      if (bytes > column.bytes) break;
      bytes += length;
    }
    if (bytes != column.bytes) throw Invalid("lengths must be from 0 on and add up to the bytes that there are");
  }

  // Writes the last instance of a message that is not written yet, its last field first.
  void message(int64_t m) {
    const int64_t instance = --instances_[m];
    for (int64_t f = starts_[m + 1] - 1; f >= starts_[m]; --f) {
      const Column& column = columns_[f];
      const int64_t count = column.counts != nullptr ? column.counts[instance] : column.count;
      if (count == 0) continue;
      const Field& field = fields_[f];
      if (field.form == kPacked) {
        const uint8_t* const end = at_;
        for (int64_t i = 0; i < count; ++i) number(field.kind, column.values, --values_[f]);
        varint(static_cast<uint64_t>(end - at_));
        varint(static_cast<uint64_t>(field.tag));
        continue;
      }
      for (int64_t i = 0; i < count; ++i) value(f, field, column);
    }
  }

  void value(int64_t f, const Field& field, const Column& column) {
    const int64_t place = --values_[f];
    const uint8_t* const end = at_;
    switch (field.kind) {
      case kMessage:
        message(field.child);
        varint(static_cast<uint64_t>(end - at_));
        break;
      case kBytes:
      case kRaw: {
        const int64_t length = column.lengths != nullptr ? column.lengths[place] : column.length;
        if (length == 0 && (field.form == kUnlessZero || field.kind == kRaw)) return;
        bytes_[f] -= length;
        room(length);
        at_ -= length;
        if (length > 0) std::memcpy(at_, column.values + bytes_[f], static_cast<size_t>(length));
        if (field.kind == kRaw) return;
        varint(static_cast<uint64_t>(length));
        break;
      }
      default:
        if (!number(field.kind, column.values, place) && field.form == kUnlessZero) {
          at_ = const_cast<uint8_t*>(end);
          return;
        }
    }
    varint(static_cast<uint64_t>(field.tag));
  }

  // Writes a number without its tag; returns whether any of its bits is set, so that -0.0 is not zero.
  bool number(int64_t kind, const uint8_t* values, int64_t place) {
    if (kind == kFixed32) return fixed<uint32_t>(values, place) != 0;
    if (kind == kFixed64) return fixed<uint64_t>(values, place) != 0;
    const uint64_t number = read<uint64_t>(values, place);
    varint(number);
    return number != 0;
  }

  template <class Word>
  static Word read(const uint8_t* values, int64_t place) {
    Word word;
    std::memcpy(&word, values + place * static_cast<int64_t>(sizeof word), sizeof word);
    return word;
  }

  template <class Word>
  Word fixed(const uint8_t* values, int64_t place) {
    const Word word = read<Word>(values, place);
    room(sizeof word);
    at_ -= sizeof word;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(at_, &word, sizeof word);
    } else {
      for (size_t b = 0; b < sizeof word; ++b) at_[b] = static_cast<uint8_t>(word >> (8 * b));
    }
    return word;
  }

  // Seven bits a byte, the lowest first.
  void varint(uint64_t number) {
    if (number < 0x80) {
      room(1);
      *--at_ = static_cast<uint8_t>(number);
      return;
    }
    const int length = (std::bit_width(number | 1) + 6) / 7;
    room(length);
    at_ -= length;
    uint8_t* to = at_;
    for (; number >= 0x80; number >>= 7) *to++ = static_cast<uint8_t>(number | 0x80);
    *to = static_cast<uint8_t>(number);
  }

  void room(int64_t bytes) const {
    if (at_ - begin_ < bytes) throw std::logic_error("a message is longer than its buffer");
  }

  const Field* const fields_;
  const int64_t* const starts_;
  const Column* const columns_;
  const uint8_t* const begin_;
  uint8_t* at_;
  std::vector<int64_t> instances_;  // [messages] - that are not written yet
  std::vector<int64_t> values_;     // [fields] - that are not written yet
  std::vector<int64_t> bytes_;      // [fields] - where the bytes end that are not written yet
};

}  // namespace
}  // namespace meshfold

// columns: [fields, 7] - values, lengths, counts, length, count, total, bytes. buffer: [capacity], of which the message
// takes the end from `start` on. Counts and values fit the layout, as kernels/wire/columns.py checks.
MESHFOLD_API int32_t meshfold_write_wire(const meshfold::WireLayout* layout, const int64_t* columns, uint8_t* buffer,
                                         int64_t capacity, int64_t* start) {
  using namespace meshfold;
  return guarded([&] {
    *start = Writer(*layout, reinterpret_cast<const Column*>(columns), buffer, capacity).run();
  });
}
