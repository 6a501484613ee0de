// The best of all items from code and residual; formula in kernels/search/exact_search.py.
#include <omp.h>

#include <algorithm>
#include <vector>

#include "native/entry.h"
#include "native/meshfold.h"
#include "search/best.h"
#include "search/fine.h"

namespace meshfold {
namespace {

// Items that a thread takes at a time.
constexpr int64_t kChunk = 4096;

// Scratch of a thread.
struct Space {
  std::vector<int16_t> fine;
  std::vector<float> found;
  std::vector<Best> best;
};

}  // namespace
}  // namespace meshfold

// query codes and residuals: [B, D], query_scales: [B], codes, residuals: [N, D], `stride` bytes from an item to the
// next, scales, rows: [N] -> positions: [B, max_results], max_results at most N.
MESHFOLD_API int32_t meshfold_exact_search(const int8_t* query_codes, const int8_t* query_residuals,
                                           const float* query_scales, const int8_t* codes, const int8_t* residuals,
                                           const float* scales, const int32_t* rows, int64_t batch, int64_t items,
                                           int64_t dimension, int64_t stride, int64_t max_results, int64_t* positions,
                                           int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const FineQueries queries(query_codes, query_residuals, query_scales, batch, dimension);
    const FineItems all{codes, residuals, scales, dimension, stride};
    const int64_t chunks = (items + kChunk - 1) / kChunk;
    const int team = static_cast<int>(std::clamp<int64_t>(chunks, 1, std::max(1, threads)));
    std::vector<Space> spaces(team);
    for (Space& space : spaces) {
      space.fine.resize(queries.room());
      space.found.resize(batch * kFineGroup);
      space.best.resize(batch);
      for (Best& best : space.best) best.reset(max_results, rows);
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
      spaces[0].best[b].finish(positions + b * max_results);
    }
  });
}
