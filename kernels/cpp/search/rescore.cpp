#include "search/rescore.h"

#include <omp.h>

#include <algorithm>
#include <string>

#include "native/entry.h"
#include "native/meshfold.h"
#include "native/prefetch.h"
#include "search/order.h"

namespace meshfold {
namespace {

// Survivors of a pool that a thread takes at a time.
constexpr int64_t kPart = 512;
// Survivors below which another thread takes longer to wake than to compare them.
constexpr int64_t kLeastPerThread = 1000;

// Positions that a thread takes at a time.
constexpr int64_t kChunk = 1024;

// Scratch of a thread.
struct Space {
  std::vector<int16_t> fine;
  std::vector<float> found;
  std::vector<int64_t> at, column;
};

struct Part {
  int64_t pool, first, last;
};

}  // namespace

void rescore(const FineQueries& queries, const FineItems& items, Pool* pools, int64_t count, int threads) {
  std::vector<Part> parts;
  int64_t items_of_all = 0;
  for (int64_t p = 0; p < count; ++p) {
    const auto size = static_cast<int64_t>(pools[p].positions.size());
    items_of_all += size;
    pools[p].similarities.resize(size);
    for (int64_t first = 0; first < size; first += kPart) parts.push_back({p, first, std::min(size, first + kPart)});
  }
  const auto all = static_cast<int64_t>(parts.size());
  const int team = static_cast<int>(std::clamp<int64_t>(items_of_all / kLeastPerThread, 1, threads));
  std::vector<int16_t> space(team * queries.room());
#pragma omp parallel for num_threads(team) schedule(dynamic) if (team > 1)
  for (int64_t i = 0; i < all; ++i) {
    const Part& part = parts[i];
    const int64_t* at = pools[part.pool].positions.data();
    float* to = pools[part.pool].similarities.data();
    int16_t* own = space.data() + omp_get_thread_num() * queries.room();
    const int64_t ahead = FineQueries::begin(items, at + part.first, part.last - part.first);
    for (int64_t first = part.first; first < part.last; first += kFineGroup) {
      const int64_t left = part.last - first;
      float found[kFineGroup];
      queries.run(part.pool, part.pool + 1, items, at + first, left, ahead, own, found);
      std::copy_n(found, std::min(kFineGroup, left), to + first);
    }
  }
}

void Pool::best(int64_t candidates, int64_t most_candidates, const int32_t* rows, int64_t* to_positions,
                float* to_similarities) {
  const auto size = static_cast<int64_t>(positions.size());
  entries.resize(size);
  for (int64_t i = 0; i < size; ++i) entries[i] = entry_of(similarities[i], static_cast<uint32_t>(i));
  put_in_order(entries, candidates, [&](uint32_t place) { return rows[positions[place]]; });
  const auto found = static_cast<int64_t>(entries.size());
  for (int64_t i = 0; i < found; ++i) {
    const auto place = static_cast<uint32_t>(entries[i]);
    to_positions[i] = positions[place];
    // The caller looks up the row next.
    prefetch_line(rows + positions[place]);
    to_similarities[i] = similarities[place];
  }
  std::fill(to_positions + found, to_positions + most_candidates, -1);
  std::fill(to_similarities + found, to_similarities + most_candidates, 0.0f);
}

}  // namespace meshfold

// query codes and residuals: [B, T, D], query_scales: [B, T], codes, residuals: [N, D], `stride` bytes from an item to
// the next, scales: [N], positions: [B, M], below 0 for nothing -> similarities: [B, T, M].
MESHFOLD_API int32_t meshfold_rescore(const int8_t* query_codes, const int8_t* query_residuals,
                                      const float* query_scales, const int8_t* codes, const int8_t* residuals,
                                      const float* scales, const int64_t* positions, int64_t batch, int64_t tasks,
                                      int64_t items, int64_t dimension, int64_t stride, int64_t count,
                                      float* similarities, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    for (int64_t m = 0; m < batch * count; ++m) {
      if (positions[m] >= items) {
        throw Invalid("positions must be below " + std::to_string(items) + ", got " + std::to_string(positions[m]));
      }
    }
    const FineQueries queries(query_codes, query_residuals, query_scales, batch * tasks, dimension);
    const FineItems all{codes, residuals, scales, dimension, stride};
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
