// Filter and search in one pass; meaning and formulas in kernels/search/ivf_search.py.
//
//   1  filter each query. Short posting lists give the survivors directly. Else the sample gives an estimate of the
//   pass
//      rate; if fewer items than the budget are expected to pass, all bundles are evaluated at once. With fewer
//      survivors than the budget, all are scored and no cluster is probed
//   2  open clusters for every other query vector, in probe order, until their survivors meet the budget
//   3  score each cluster, or stretch of survivors, for every query vector that opened it, so that items are read from
//      memory once. Each thread keeps the best of each query vector. A query vector whose survivors all fit its pool
//      needs no scores
//   4  merge the pools of the threads, score them again from 16 bits, and sort the best
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "filter/filter.h"
#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"
#include "native/prefetch.h"
#include "search/best.h"
#include "search/coarse.h"
#include "search/dot.h"
#include "search/open.h"
#include "search/plan.h"
#include "search/rescore.h"
#include "search/sample.h"
#include "search/select.h"
#include "vectors/quantize.h"

namespace meshfold {
namespace {

// Items scored at a time: their codes stay in the first cache for the next query vector.
constexpr int64_t kBlock = Prefetcher::kMost;
// Lines of 64 bytes to prefetch at the start of the next cluster.
constexpr int64_t kLinesAhead = 16;
// Positions of a stretch where every survivor is scored.
constexpr int64_t kStretch = 16 * kBundle;
// Survivors to collect before they are scored, and the length of a stretch of a list.
constexpr int64_t kWaiting = 1024;
// Scores of survivors that all fit the pool.
constexpr float kNoScores[kWaiting + 64] = {};
// Bytes of items below which another thread takes longer to wake than to score them.
constexpr int64_t kLeastPerThread = 128 << 10;

// Measured thresholds of plans; answers do not depend on them.
std::atomic<double> filter_first_below{1.0};
std::atomic<double> gather_below{0.5};
std::atomic<double> scan_prefetch{static_cast<double>(default_prefetch_bytes())};
// Beyond this distance, prefetched lines leave the cache before they are used.
constexpr double kMostPrefetch = 1 << 20;

// Which survivors of a query are scored: those in the clusters that it opens, or all of them, from bits or from a list.
enum class Way : uint8_t { clusters, bits, list };

struct Request {
  const float* vectors;
  int64_t tasks;
  Ivf ivf;
  FilterIndex index, sample;
  FilterBatch filters;
  const int64_t *budget, *probes, *candidates, *max_results;
  int64_t rescored, most_candidates;
  int64_t* positions;
  float* similarities;
  int64_t *opened, *scored;
  int threads;
};

// Memory of a call, kept for the next call of the thread.
struct Scratch {
  std::vector<Survivors> survivors;   // [B]
  std::vector<std::vector<int32_t>> lists;  // [B] - survivors from posting lists
  std::vector<Probe> probes;          // [B T]
  std::vector<Opened> opened;         // [B T]
  std::vector<Best> best;             // [threads, B T]
  std::vector<Pool> pools;            // [B T]
  Plan plan;
};

// State of one query vector in one thread.
struct Slot {
  const CoarseQuery* query;         // null where all survivors fit the pool
  const Survivors* survivors;       // null where every item passes
  Best* best;
  int64_t waiting = 0;              // survivors to score
  int32_t at[kWaiting + 2 * 64];    // the positions of a whole word may be stored beyond the last
};

class Search {
 public:
  Search(const Request& request, Scratch& scratch) : r_(request), s_(scratch), slots_(r_.filters.queries * r_.tasks) {}

  void run() {
    prepare();
    follow_lists();
    filter_first();
    probe();
    plan();
    scan();
    merge();
    refine();
  }

 private:
  void prepare() {
    const int64_t b = r_.filters.queries, d = r_.ivf.dimension;
    for (int64_t i = 0; i < b; ++i) {
      if (r_.candidates[i] < 0 || r_.candidates[i] > r_.most_candidates) {
        throw Invalid("candidates must be from 0 to the columns of the result");
      }
      if (r_.budget[i] < 0 || r_.probes[i] < 0) throw Invalid("budget and probes must not be negative");
      filters_.push_back(std::make_unique<Filter>(r_.index, r_.filters, i));
    }
    codes_.resize(slots_ * d);
    residuals_.resize(slots_ * d);
    scales_.resize(slots_);
    for (int64_t s = 0; s < slots_; ++s) {
      scales_[s] = quantize(r_.vectors + s * d, d, codes_.data() + s * d, residuals_.data() + s * d);
    }
    way_.assign(b, Way::clusters);
    if (static_cast<int64_t>(s_.lists.size()) < b) s_.lists.resize(b);
    if (static_cast<int64_t>(s_.survivors.size()) < b) s_.survivors.resize(b);
    if (static_cast<int64_t>(s_.probes.size()) < slots_) s_.probes.resize(slots_);
    if (static_cast<int64_t>(s_.opened.size()) < slots_) s_.opened.resize(slots_);
    if (static_cast<int64_t>(s_.best.size()) < slots_ * r_.threads) s_.best.resize(slots_ * r_.threads);
    if (static_cast<int64_t>(s_.pools.size()) < slots_) s_.pools.resize(slots_);
    for (int64_t i = 0; i < b; ++i) s_.survivors[i].reset(filters_[i].get(), r_.ivf.items);
  }

  // Finds the queries whose posting lists give fewer survivors than the budget: all of them are scored.
  void follow_lists() {
    const int64_t b = r_.filters.queries;
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (r_.threads > 1 && b > 1)
    for (int64_t i = 0; i < b; ++i) {
      if (!filters_[i]->has_lists() || r_.probes[i] < r_.ivf.clusters) continue;
      filters_[i]->listed(s_.lists[i]);
      const auto found = static_cast<int64_t>(s_.lists[i].size());
      if (found < r_.budget[i]) settle(i, Way::list, found);
    }
  }

  // Sets the way of a query that scores all its survivors.
  void settle(int64_t i, Way way, int64_t survivors) {
    way_[i] = way;
    for (int64_t s = i * r_.tasks; s < (i + 1) * r_.tasks; ++s) {
      r_.opened[s] = r_.ivf.clusters;
      r_.scored[s] = survivors;
    }
  }

  // Evaluates filters over all items where few are expected to pass, and finds the queries that score all survivors.
  void filter_first() {
    const int64_t n = r_.ivf.items, size = std::min(n, kSample);
    for (int64_t i = 0; i < r_.filters.queries; ++i) {
      if (way_[i] == Way::list) continue;
      if (r_.probes[i] < r_.ivf.clusters) continue;
      const double passing = size ? static_cast<double>(sampled(r_.sample, r_.filters, i, n)) / size * n : 0;
      if (passing > r_.budget[i] * filter_first_below.load()) continue;
      Survivors& survivors = s_.survivors[i];
      const int64_t stretches = (n + kStretch - 1) / kStretch;
      int64_t found = 0;
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) reduction(+ : found) if (r_.threads > 1)
      for (int64_t part = 0; part < stretches; ++part) {
        const int64_t first = part * kStretch, last = std::min(n, first + kStretch);
        survivors.need(first, last);
        found += survivors.count(first, last);
      }
      if (found < r_.budget[i]) settle(i, Way::bits, found);
    }
  }

  void probe() {
    const int64_t b = r_.filters.queries;
    if (std::find(way_.begin(), way_.end(), Way::clusters) == way_.end()) return;
    const int64_t* offsets = r_.ivf.offsets;
    bool ascending = offsets[0] == 0 && offsets[r_.ivf.clusters] == r_.ivf.items;
    for (int64_t c = 0; c < r_.ivf.clusters; ++c) ascending &= offsets[c] <= offsets[c + 1];
    if (!ascending) throw Invalid("offsets must ascend from 0 to N");
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (r_.threads > 1 && slots_ > 1)
    for (int64_t s = 0; s < slots_; ++s) {
      if (way_[s / r_.tasks] != Way::clusters) continue;
      const int8_t* codes = codes_.data() + s * r_.ivf.dimension;
      s_.probes[s].score(r_.ivf, DotQuery(codes, r_.ivf.dimension), codes);
    }
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (r_.threads > 1 && b > 1)
    for (int64_t i = 0; i < b; ++i) {
      for (int64_t s = i * r_.tasks; s < (i + 1) * r_.tasks; ++s) {
        Opened& opened = s_.opened[s];
        opened.clusters.clear();
        if (way_[i] != Way::clusters) continue;
        open_clusters(s_.probes[s], r_.ivf.offsets, r_.ivf.clusters, r_.budget[i], r_.probes[i], s_.survivors[i], opened);
        r_.opened[s] = opened.count;
        r_.scored[s] = opened.survivors;
      }
    }
  }

  void plan() {
    s_.plan.reset();
    if (std::find(way_.begin(), way_.end(), Way::clusters) != way_.end()) {
      s_.plan.add_clusters(s_.opened.data(), slots_, r_.ivf.offsets, r_.ivf.clusters);
    }
    std::vector<int32_t> all;
    for (int64_t i = 0; i < r_.filters.queries; ++i) {
      if (way_[i] == Way::list) s_.plan.add_list(s_.lists[i], kWaiting, i * r_.tasks, r_.tasks);
      if (way_[i] != Way::bits) continue;
      for (int64_t s = i * r_.tasks; s < (i + 1) * r_.tasks; ++s) all.push_back(static_cast<int32_t>(s));
    }
    s_.plan.add_all(r_.ivf.items, kStretch, all);
  }

  void scan() {
    const int64_t width = coarse_width(r_.ivf.dimension);
    std::vector<CoarseQuery> queries(slots_);
    int64_t bytes = 0;
    for (int64_t s = 0; s < slots_; ++s) {
      if (r_.scored[s] <= pool_of(s)) continue;
      queries[s] = CoarseQuery(codes_.data() + s * r_.ivf.dimension, r_.ivf.dimension);
      bytes += r_.scored[s] * width;
    }
    const int threads = team_ = static_cast<int>(std::clamp<int64_t>(bytes / kLeastPerThread, 1, r_.threads));
    std::vector<Slot> slots(slots_ * threads);
    for (int64_t i = 0; i < slots_ * threads; ++i) {
      const int64_t s = i % slots_;
      const Survivors& survivors = s_.survivors[s / r_.tasks];
      s_.best[i].reset(pool_of(s), r_.ivf.rows);
      slots[i].query = r_.scored[s] <= pool_of(s) ? nullptr : &queries[s];
      slots[i].survivors = survivors.all() ? nullptr : &survivors;
      slots[i].best = &s_.best[i];
    }
    // All memory is allocated here: no exception may leave a parallel region.
    std::vector<std::vector<Slot*>> dense(threads);
    for (auto& of_thread : dense) of_thread.reserve(slots_);
    std::atomic<int64_t> next{0};
    const int64_t stretches = s_.plan.size();
    // Clusters are small: a few at a time, so that threads seldom meet at the counter.
    const int64_t step = threads == 1 ? stretches : std::clamp<int64_t>(stretches / (threads * 16), 1, 16);
    const auto prefetch_bytes = static_cast<int64_t>(std::min(scan_prefetch.load(), kMostPrefetch));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      Slot* own = slots.data() + omp_get_thread_num() * slots_;
      for (int64_t at = next.fetch_add(step); at < stretches; at = next.fetch_add(step)) {
        const int64_t stop = std::min(at + step, stretches);
        Prefetcher prefetcher(s_.plan, stop, r_.ivf, prefetch_bytes);
        for (int64_t u = at; u < stop; ++u) score(u, own, dense[omp_get_thread_num()], prefetcher);
      }
      for (int64_t s = 0; s < slots_; ++s) flush(own[s]);
    }
  }

  // Survivors of a query vector to score again from 16 bits.
  int64_t pool_of(int64_t slot) const {
    const int64_t i = slot / r_.tasks, candidates = r_.candidates[i];
    return std::max(candidates, std::clamp<int64_t>(r_.max_results[i], 0, candidates) * r_.rescored);
  }

  // Scores stretch u: few survivors one by one, else block by block for up to kCoarseQueries query vectors at a time.
  void score(int64_t u, Slot* own, std::vector<Slot*>& dense, Prefetcher& prefetcher) {
    const Stretch& stretch = s_.plan[u];
    const int32_t* members = s_.plan.slots(stretch);
    const double few = gather_below.load(std::memory_order_relaxed) * (stretch.last - stretch.first);
    dense.clear();
    for (int64_t i = 0; i < stretch.count; ++i) {
      Slot& slot = own[members[i]];
      if (stretch.list) {
        offer(slot, stretch.list + stretch.first, stretch.last - stretch.first);
      } else if (slot.survivors && (!slot.query || slot.survivors->count(stretch.first, stretch.last) < few)) {
        gather(slot, stretch.first, stretch.last);
      } else if (!slot.query) {
        for (int64_t at = stretch.first; at < stretch.last; at += kBlock) {
          slot.best->offer(kNoScores, std::min(kBlock, stretch.last - at), at, nullptr);
        }
      } else {
        dense.push_back(&slot);
      }
    }
    const auto count = static_cast<int64_t>(dense.size());
    for (int64_t first = stretch.first; first < stretch.last && count > 0; first += kBlock) {
      const int64_t items = std::min(kBlock, stretch.last - first);
      const int64_t* next = prefetcher.next(u, first, items);
      if (!next && first + items == stretch.last) prefetch_stretch(u + 1);
      for (int64_t d = 0; d < count; d += kCoarseQueries) {
        run(dense.data() + d, static_cast<int>(std::min<int64_t>(kCoarseQueries, count - d)), first, items, next);
        // Prefetched once for all query vectors.
        next = nullptr;
      }
    }
  }

  // Prefetches the start of stretch u, which the processor cannot foresee; its own prefetcher continues from there.
  void prefetch_stretch(int64_t u) const {
    if (u == s_.plan.size() || s_.plan[u].list || s_.plan[u].first == s_.plan[u - 1].last) return;
    const uint8_t* coarse = r_.ivf.coarse + s_.plan[u].first * coarse_width(r_.ivf.dimension);
    for (int64_t line = 0; line < kLinesAhead; ++line) prefetch_line(coarse + 64 * line);
    prefetch_line(r_.ivf.scales + s_.plan[u].first);
  }

  // Scores every item of a block.
  void run(Slot* const* slots, int count, int64_t first, int64_t items, const int64_t* ahead) {
    float scores[kCoarseQueries * kBlock];
    const CoarseQuery* queries[kCoarseQueries];
    for (int q = 0; q < count; ++q) queries[q] = slots[q]->query;
    const uint8_t* coarse = r_.ivf.coarse + first * coarse_width(r_.ivf.dimension);
    coarse_scores(queries, count, coarse, r_.ivf.scales + first, items, ahead, scores, kBlock);
    for (int q = 0; q < count; ++q) {
      const Survivors* survivors = slots[q]->survivors;
      slots[q]->best->offer(scores + q * kBlock, items, first, survivors ? survivors->words() : nullptr);
    }
  }

  // Collects survivors and scores them kWaiting at a time.
  void gather(Slot& slot, int64_t first, int64_t last) {
    for (int64_t w = first >> 6; w <= (last - 1) >> 6; ++w) {
      const uint64_t bits = slot.survivors->word(w) & within(w, first, last);
      if (bits == 0) continue;
      if (slot.waiting > kWaiting) flush(slot);
      slot.waiting += positions_of(bits, static_cast<int32_t>(w * 64), slot.at + slot.waiting);
    }
  }

  void flush(Slot& slot) {
    offer(slot, slot.at, slot.waiting);
    slot.waiting = 0;
  }

  // Scores survivors; at most kWaiting + 64.
  void offer(Slot& slot, const int32_t* at, int64_t count) {
    if (!slot.query) return slot.best->offer(kNoScores, count, at);
    float scores[kWaiting + 64];
    slot.query->gather(r_.ivf.coarse, r_.ivf.scales, at, count, scores);
    slot.best->offer(scores, count, at);
  }

  void merge() {
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (team_ > 1 && slots_ > 1)
    for (int64_t s = 0; s < slots_; ++s) {
      Best& best = s_.best[s];
      for (int other = 1; other < team_; ++other) best.take(s_.best[other * slots_ + s]);
      best.release(s_.pools[s].positions);
    }
  }

  void refine() {
    const FineQueries queries(codes_.data(), residuals_.data(), scales_.data(), slots_, r_.ivf.dimension);
    const FineItems items{r_.ivf.codes, r_.ivf.residuals, r_.ivf.scales, r_.ivf.dimension, r_.ivf.stride};
    Pool* const pools = s_.pools.data();
    rescore(queries, items, pools, slots_, r_.threads);
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (r_.threads > 1 && slots_ > 1)
    for (int64_t s = 0; s < slots_; ++s) {
      const int64_t first = s * r_.most_candidates;
      pools[s].best(r_.candidates[s / r_.tasks], r_.most_candidates, r_.ivf.rows, r_.positions + first,
                    r_.similarities + first);
    }
  }

  const Request& r_;
  Scratch& s_;
  int64_t slots_;
  std::vector<std::unique_ptr<Filter>> filters_;
  std::vector<int8_t> codes_, residuals_;  // [B T, D]
  std::vector<float> scales_;               // [B T]
  std::vector<Way> way_;
  int team_ = 1;
};

}  // namespace
}  // namespace meshfold

// Sets the thresholds of plans for the whole process; tests force plans with them. filter_first: evaluate a filter over
// all items if fewer than filter_first * budget are expected to pass. gather: read survivors one by one if they are a
// smaller share of a cluster. prefetch_bytes: prefetch distance of a scan.
MESHFOLD_API void meshfold_tune(double filter_first, double gather, double prefetch_bytes) {
  meshfold::filter_first_below = filter_first;
  meshfold::gather_below = gather;
  meshfold::scan_prefetch = prefetch_bytes;
}

// vectors: [B, T, D] -> found, 8 bytes each: positions: [B, T, most_candidates], best first, opened, scored: [B, T];
// then similarities: [B, T, most_candidates], of 4 bytes; as in kernels/search/tensors.py.
MESHFOLD_API int32_t meshfold_search(const float* vectors, int32_t tasks, const meshfold::Ivf* ivf,
                                     const meshfold::FilterIndex* index, const meshfold::FilterIndex* sample,
                                     const meshfold::FilterBatch* filters, const meshfold::Limits* limits,
                                     int32_t most_candidates, int64_t* found, int32_t threads) {
  return meshfold::guarded([&] {
    static thread_local meshfold::Scratch scratch;
    const int64_t slots = filters->queries * tasks;
    int64_t* const opened = found + slots * most_candidates;
    int64_t* const scored = opened + slots;
    auto* const similarities = reinterpret_cast<float*>(scored + slots);
    const meshfold::Request request{vectors, tasks, *ivf, *index, *sample, *filters, limits->budget, limits->probes,
                                    limits->candidates, limits->max_results, limits->rescored, most_candidates, found, similarities,
                                    opened, scored, threads};
    meshfold::Search(request, scratch).run();
  });
}
