// Selection of items by score and by bit.
#pragma once

#include <bit>
#include <cstdint>

namespace meshfold {

// An integer that orders as the score does; 0.0 and -0.0 are one. Not for NaN.
inline int32_t ordered(float score) {
  const int32_t bits = std::bit_cast<int32_t>(score + 0.0f);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}

// The score of such an integer.
inline float score_of(int32_t order) { return std::bit_cast<float>(order < 0 ? order ^ 0x7FFFFFFF : order); }

// Places that may be written beyond the last one taken.
constexpr int64_t kTakenBeyond = 16;

// Copies scores of at least `threshold` and the positions of their items, in order; returns their number. Positions are
// consecutive from `first` on. allowed: null, or a bit by position for each item to take, with a word beyond the last.
int64_t take_run(const float* scores, int64_t n, float threshold, int64_t first, const uint64_t* allowed,
                 float* to_scores, int32_t* to_positions);

// The same for positions at[i]; source and destination may be equal.
int64_t take_listed(const float* scores, int64_t n, float threshold, const int32_t* at, float* to_scores,
                    int32_t* to_positions);

// Moves items with scores of at least `least` to the front, in order; returns their number. May read and write
// kTakenBeyond places beyond n.
inline int64_t keep_at_least(float* scores, int32_t* positions, int64_t n, float least) {
  return take_listed(scores, n, least, positions, scores, positions);
}

struct ScoreSpan {
  int32_t least, most;
};

// The range of n scores, at least one, as ordered integers.
ScoreSpan span_of(const float* scores, int64_t n);

// The number of scores of at least `least`.
int64_t count_at_least(const float* scores, int64_t n, float least);

// Writes the positions of the set bits of a word; returns their number. base: position of bit 0. at: room for 64.
int64_t positions_of(uint64_t word, int32_t base, int32_t* at);

}  // namespace meshfold
