// Few integers in order.
#pragma once

#include <cstdint>

namespace meshfold {

// Up to so many, comparing each with each is faster than any other way.
constexpr int64_t kMostFew = 128;

// Puts n integers that differ in ascending order; n is at most kMostFew.
void sort_few(uint64_t* entries, int64_t n);

}  // namespace meshfold
