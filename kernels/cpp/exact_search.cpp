// The best of all items from code and residual; kernels/exact_search.py has the formula.
#include <omp.h>

#include <algorithm>
#include <vector>

#include "best.h"
#include "entry.h"
#include "fine.h"
#include "meshfold.h"

namespace meshfold {
namespace {

// Items that a thread takes at a time.
constexpr int64_t kChunk = 4096;

// What a thread works in.
struct Space {
  std::vector<int16_t> fine;
  std::vector<float> found;
  std::vector<Best> best;
};

}  // namespace
}  // namespace meshfold

// query codes and residuals: [B, D], query_units: [B], codes, residuals: [N, D], `stride` bytes from an item to the next,
// units, rows: [N] -> places: [B, depth], depth at most N.
MESHFOLD_API int32_t meshfold_exact_search(const int8_t* query_codes, const int8_t* query_residuals,
                                           const float* query_units, const int8_t* codes, const int8_t* residuals,
                                           const float* units, const int32_t* rows, int64_t batch, int64_t items,
                                           int64_t dimension, int64_t stride, int64_t depth, int64_t* places,
                                           int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const FineQueries queries(query_codes, query_residuals, query_units, batch, dimension);
    const FineItems all{codes, residuals, units, dimension, stride};
    const int64_t chunks = (items + kChunk - 1) / kChunk;
    const int team = static_cast<int>(std::clamp<int64_t>(chunks, 1, std::max(1, threads)));
    std::vector<Space> spaces(team);
    for (Space& space : spaces) {
      space.fine.resize(queries.room());
      space.found.resize(batch * kFineGroup);
      space.best.resize(batch);
      for (Best& best : space.best) best.reset(depth, rows);
    }
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      Space& space = spaces[omp_get_thread_num()];
      const int64_t last = std::min(items, (chunk + 1) * kChunk);
      for (int64_t start = chunk * kChunk; start < last; start += kFineGroup) {
        const int64_t own = std::min(kFineGroup, last - start);
        int64_t at[kFineGroup];
        for (int64_t i = 0; i < own; ++i) at[i] = start + i;
        queries.run(0, batch, all, at, own, kFineAhead, space.fine.data(), space.found.data());
        for (int64_t b = 0; b < batch; ++b) {
          space.best[b].offer(space.found.data() + b * kFineGroup, own, start, nullptr);
        }
      }
    }
    for (int64_t b = 0; b < batch; ++b) {
      for (int t = 1; t < team; ++t) spaces[0].best[b].take(spaces[t].best[b]);
      spaces[0].best[b].finish(places + b * depth);
    }
  });
}
