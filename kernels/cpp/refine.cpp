#include "refine.h"

#include <omp.h>

#include <algorithm>

#include "ahead.h"
#include "order.h"

namespace meshfold {
namespace {

// Of a pool, those that a thread takes at a time.
constexpr int64_t kPart = 512;
// Of all pools, those for each thread below which it takes longer to wake than to compare them.
constexpr int64_t kLeastPerThread = 1000;

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

void Pool::best(int64_t depth, int64_t k, const int32_t* rows, int64_t* to_positions, float* to_similarities) {
  const auto size = static_cast<int64_t>(positions.size());
  entries.resize(size);
  for (int64_t i = 0; i < size; ++i) entries[i] = entry_of(similarities[i], static_cast<uint32_t>(i));
  put_in_order(entries, depth, [&](uint32_t place) { return rows[positions[place]]; });
  const auto found = static_cast<int64_t>(entries.size());
  for (int64_t i = 0; i < found; ++i) {
    const auto place = static_cast<uint32_t>(entries[i]);
    to_positions[i] = positions[place];
    // Which item it is, is what is looked up next.
    ask_for(rows + positions[place]);
    to_similarities[i] = similarities[place];
  }
  std::fill(to_positions + found, to_positions + k, -1);
  std::fill(to_similarities + found, to_similarities + k, 0.0f);
}

}  // namespace meshfold
