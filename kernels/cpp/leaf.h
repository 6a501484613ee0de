// A loop that compilers vectorise well by themselves is written once, and inlined into a function for each level.
#pragma once

#define MESHFOLD_INLINE inline __attribute__((always_inline))

namespace meshfold {

// Added to a float64 below 2^51 and taken away again, it rounds to the nearest integer, ties to even: 1.5 * 2^52.
constexpr double kRound = 6755399441055744.0;

}  // namespace meshfold
