// kernels/wire/scan.py
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "native/entry.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

constexpr int kNone = -1;
constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
constexpr int kMessage = 0, kMalformed = 1, kTooManyFields = 2, kTooNested = 3;
// Messages within one another, the outermost not counted.
constexpr int kMostNested = 100;
// Bytes of the longest varint.
constexpr int kLongest = 10;
// Numbers in the result: verdict, fields, levels; then of each counter; then of each capture.
constexpr int64_t kHead = 3, kCounted = 5, kCaptured = 2;
// What is done with a field: its wire type, child, counter and capture.
constexpr int64_t kRule = 4;

// A message that the scan is in.
struct Frame {
  int32_t type;
  int64_t start, end;
};

class Scan {
 public:
  Scan(const WireTable& table, const uint8_t* message, int64_t most_fields, int64_t* numbers)
      : table_(table), message_(message), most_fields_(most_fields), numbers_(numbers),
        captures_(numbers + kHead + kCounted * table.counter_count),
        running_(table.counter_count), seen_(table.types), is_scope_(table.types) {
    for (int32_t c = 0; c < table.counter_count; ++c) {
      if (scope(c) != kNone) is_scope_[scope(c)] = 1;
    }
  }

  // The verdict.
  int run(int64_t bytes) {
    for (int32_t c = 0; c < table_.capture_count; ++c) captures_[kCaptured * c + 1] = kNone;
    int64_t fields = 0;
    enter(0, 0, bytes);
    for (;;) {
      if (place_ == frame_.end) {
        leave();
        if (depth_ == 0) break;
        frame_ = outer_[--depth_];
        continue;
      }
      if (++fields > most_fields_) return kTooManyFields;
      const int verdict = field();
      if (verdict != kMessage) return verdict;
    }
    for (int32_t c = 0; c < table_.counter_count; ++c) {
      int64_t* const out = numbers_ + kHead + kCounted * c;
      if (scope(c) == kNone) out[0] = out[1] = running_[c];
    }
    numbers_[1] = fields;
    return kMessage;
  }

 private:
  int32_t scope(int32_t c) const { return table_.counters[2 * c]; }

  void enter(int32_t type, int64_t start, int64_t end) {
    frame_ = {type, start, end};
    place_ = start;
    ++seen_[type];
    levels_ += type == table_.level;
    numbers_[2] = std::max(numbers_[2], levels_);
  }

  void leave() {
    levels_ -= frame_.type == table_.level;
    if (!is_scope_[frame_.type]) return;
    for (int32_t c = 0; c < table_.counter_count; ++c) {
      if (scope(c) != frame_.type) continue;
      int64_t* const out = numbers_ + kHead + kCounted * c;
      out[0] += running_[c];
      if (running_[c] > out[1]) {
        out[1] = running_[c];
        out[2] = seen_[table_.counters[2 * c + 1]] - 1;
        out[3] = frame_.start;
        out[4] = frame_.end;
      }
      running_[c] = 0;
    }
  }

  // Reads the field at place_ and goes past it, or into it.
  int field() {
    uint64_t tag, number = 0;
    if (!varint(tag) || tag < 8) return kMalformed;
    const int wire = static_cast<int>(tag & 7);
    const uint64_t field = tag >> 3;
    uint64_t length = 0;
    switch (wire) {
      case kVarint:
        if (!varint(number)) return kMalformed;
        break;
      case kBytes:
        if (!varint(length)) return kMalformed;
        break;
      case kFixed32:
        length = 4;
        break;
      case kFixed64:
        length = 8;
        break;
      default:
        return kMalformed;
    }
    if (length > static_cast<uint64_t>(frame_.end - place_)) return kMalformed;
    const int64_t content = place_;
    place_ += static_cast<int64_t>(length);

    const int64_t first = table_.starts[frame_.type];
    if (field >= static_cast<uint64_t>(table_.starts[frame_.type + 1] - first)) return kMessage;
    const int32_t* const rule = table_.rules + kRule * (first + static_cast<int64_t>(field));
    const int32_t child = rule[1], counter = rule[2], capture = rule[3];
    if (wire == rule[0]) {
      if (counter != kNone) ++running_[counter];
      if (capture != kNone) {
        captures_[kCaptured * capture] = wire == kBytes ? content : static_cast<int64_t>(number);
        captures_[kCaptured * capture + 1] = wire == kBytes ? place_ : 0;
      }
      if (child != kNone) {
        if (depth_ == kMostNested) return kTooNested;
        outer_[depth_++] = frame_;
        enter(child, content, place_);
      }
      return kMessage;
    }
    return wire != kBytes || counter == kNone ? kMessage : packed(content, rule[0], running_[counter]);
  }

  // Adds how many numbers the packed list from `place` to place_ holds.
  int packed(int64_t place, int wire, int64_t& count) const {
    if (wire != kVarint) {
      const int64_t size = wire == kFixed32 ? 4 : 8;
      if ((place_ - place) % size != 0) return kMalformed;
      count += (place_ - place) / size;
      return kMessage;
    }
    // run: of bytes before `place` that end no number. Eight bytes at a time hold no run that is too long by itself.
    int64_t run = 0;
    for (; place_ - place >= 8; place += 8) {
      uint64_t word;
      std::memcpy(&word, message_ + place, sizeof word);
      if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
      const uint64_t ends = ~word & 0x8080808080808080;
      if (run + std::countr_zero(ends) / 8 >= kLongest) return kMalformed;
      run = ends == 0 ? run + 8 : std::countl_zero(ends) / 8;
      count += static_cast<int64_t>((ends >> 7) * 0x0101010101010101 >> 56);
    }
    for (; place < place_; ++place) {
      const bool ends = message_[place] < 0x80;
      run = ends ? 0 : run + 1;
      if (run >= kLongest) return kMalformed;
      count += ends;
    }
    return run > 0 ? kMalformed : kMessage;
  }

  // Seven bits a byte, the lowest first; 64 bits are kept.
  bool varint(uint64_t& number) {
    number = 0;
    const int64_t end = std::min(frame_.end, place_ + kLongest);
    for (int shift = 0; place_ < end; shift += 7) {
      const uint64_t byte = message_[place_++];
      number |= (byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const WireTable& table_;
  const uint8_t* const message_;
  const int64_t most_fields_;
  int64_t* const numbers_;
  int64_t* const captures_;
  std::vector<int64_t> running_;   // [counters] - of the scope that the scan is in
  std::vector<int64_t> seen_;      // [types] - messages that were entered
  std::vector<uint8_t> is_scope_;  // [types]
  Frame outer_[kMostNested];
  int depth_ = 0;
  Frame frame_{};
  int64_t place_ = 0;
  int64_t levels_ = 0;
};

}  // namespace
}  // namespace meshfold

// numbers: verdict, fields, levels, [counters, 5] and [captures, 2]. The table is as kernels/wire/table.py checks it.
MESHFOLD_API int32_t meshfold_scan_wire(const meshfold::WireTable* table, const uint8_t* message, int64_t bytes,
                                        int64_t most_fields, int64_t* numbers) {
  using namespace meshfold;
  return guarded([&] {
    const int64_t count = kHead + kCounted * table->counter_count + kCaptured * table->capture_count;
    std::fill_n(numbers, count, 0);
    const int verdict = Scan(*table, message, most_fields, numbers).run(bytes);
    if (verdict != kMessage) std::fill_n(numbers, count, 0);
    numbers[0] = verdict;
  });
}
