// Which of many items go on: those whose score is high enough, and those whose bit is set.
#pragma once

#include <cstdint>

namespace meshfold {

// Indices of the scores that are at least `threshold`, in order; returns how many. indices: room for n.
int64_t at_least(const float* scores, int64_t n, float threshold, int32_t* indices);

// The positions of the bits of a word, `base` that of its first; returns how many. at: room for 64.
int64_t positions_of(uint64_t word, int32_t base, int32_t* at);

struct Span64 {
  uint64_t least, most;
};

// Of n integers, at least one.
Span64 span_of(const uint64_t* entries, int64_t n);

// Moves those of at least `least` to the front, in order; returns how many.
int64_t keep_at_least(uint64_t* entries, int64_t n, uint64_t least);

}  // namespace meshfold
