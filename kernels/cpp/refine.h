// What a coarse score lets through, scored again from 16 bits and put in order.
#pragma once

#include <cstdint>
#include <vector>

#include "fine.h"

namespace meshfold {

// Survivors of one query vector, and their similarities.
struct Pool {
  std::vector<int64_t> positions;
  std::vector<float> similarities;
  std::vector<uint64_t> entries;    // what it works in

  // Writes the best `depth` in order, ties to the smaller row, and -1 and 0 up to k. rows: of the items by position.
  void best(int64_t depth, int64_t k, const int32_t* rows, int64_t* to_positions, float* to_similarities);
};

// The similarities of each pool to its query vector.
void rescore(const FineQueries& queries, const FineItems& items, Pool* pools, int64_t count, int threads);

}  // namespace meshfold
