// Similarities of items at positions; kernels/rescore.py has the formula.
#include <omp.h>

#include <algorithm>
#include <vector>

#include "entry.h"
#include "fine.h"
#include "meshfold.h"

namespace meshfold {
namespace {

// Positions that a thread takes at a time.
constexpr int64_t kChunk = 1024;

// What a thread works in.
struct Space {
  std::vector<int16_t> fine;
  std::vector<float> found;
  std::vector<int64_t> at, column;
};

}  // namespace
}  // namespace meshfold

// query codes and residuals: [B, T, D], query_units: [B, T], codes, residuals: [N, D], `stride` bytes from an item to the
// next, units: [N], positions: [B, M], below 0 for nothing -> similarities: [B, T, M].
MESHFOLD_API int32_t meshfold_rescore(const int8_t* query_codes, const int8_t* query_residuals,
                                      const float* query_units, const int8_t* codes, const int8_t* residuals,
                                      const float* units, const int64_t* positions, int64_t batch, int64_t tasks,
                                      int64_t items, int64_t dimension, int64_t stride, int64_t count,
                                      float* similarities, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t m = 0; m < batch * count; ++m) {
      if (positions[m] >= items) {
        throw Invalid("positions must be below " + std::to_string(items) + ", got " + std::to_string(positions[m]));
      }
    }
    const FineQueries queries(query_codes, query_residuals, query_units, batch * tasks, dimension);
    const FineItems all{codes, residuals, units, dimension, stride};
    const int64_t chunks = (count + kChunk - 1) / kChunk;
    const int team = static_cast<int>(std::clamp<int64_t>(batch * chunks, 1, std::max(1, threads)));
    std::vector<Space> spaces(team);
    for (Space& space : spaces) {
      space.fine.resize(queries.room());
      space.found.resize(tasks * kFineGroup);
      space.at.resize(kChunk);
      space.column.resize(kChunk);
    }
#pragma omp parallel for schedule(dynamic) if (team > 1) num_threads(team)
    for (int64_t chunk = 0; chunk < batch * chunks; ++chunk) {
      Space& space = spaces[omp_get_thread_num()];
      const int64_t b = chunk / chunks, first = chunk % chunks * kChunk, last = std::min(count, first + kChunk);
      float* row = similarities + b * tasks * count;
      int64_t real = 0;
      for (int64_t m = first; m < last; ++m) {
        if (positions[b * count + m] >= 0) {
          space.at[real] = positions[b * count + m];
          space.column[real++] = m;
        } else {
          for (int64_t t = 0; t < tasks; ++t) row[t * count + m] = 0;
        }
      }
      const int64_t ahead = FineQueries::begin(all, space.at.data(), real);
      for (int64_t start = 0; start < real; start += kFineGroup) {
        const int64_t left = real - start;
        queries.run(b * tasks, (b + 1) * tasks, all, space.at.data() + start, left, ahead,
                    space.fine.data(), space.found.data());
        for (int64_t t = 0; t < tasks; ++t) {
          for (int64_t i = 0; i < std::min(kFineGroup, left); ++i) {
            row[t * count + space.column[start + i]] = space.found[t * kFineGroup + i];
          }
        }
      }
    }
  });
}
