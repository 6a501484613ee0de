// Survivors with the best coarse scores, scored again from 16 bits and sorted.
#pragma once

#include <cstdint>
#include <vector>

#include "search/fine.h"

namespace meshfold {

// The pool of one query vector, and its similarities.
struct Pool {
  std::vector<int64_t> positions;
  std::vector<float> similarities;
  std::vector<uint64_t> entries;    // scratch

  // Writes the best `candidates` in order, ties to the smaller row, then -1 and 0 up to most_candidates. rows: by
  // position.
  void best(int64_t candidates, int64_t most_candidates, const int32_t* rows, int64_t* to_positions,
            float* to_similarities);
};

// Fills in the similarities of each pool.
void rescore(const FineQueries& queries, const FineItems& items, Pool* pools, int64_t count, int threads);

}  // namespace meshfold
