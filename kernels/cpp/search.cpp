// Filter and search in one pass; meaning and formulas in kernels/search.py.
//
//   1  for each query: its filter. Where posting lists lead to few items, those that pass of them are the survivors.
//      Else a guess from the sample at how much passes; where that is no more than the budget, all bundles are
//      evaluated at once. If there are fewer survivors than the budget, all are scored and nothing is probed
//   2  for each other query vector: clusters in coarse order, opened until their survivors meet the budget
//   3  for each cluster, or stretch of the survivors: every query vector that opened it scores it coarsely, so that its
//      items are read from memory once; each thread keeps the best of each query vector. Nothing is scored for a query
//      vector whose survivors all go on
//   4  the threads' best are merged; they are scored again from 16 bits, and the best of them put in order
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "ahead.h"
#include "best.h"
#include "coarse.h"
#include "dot.h"
#include "entry.h"
#include "filter.h"
#include "isa.h"
#include "lookahead.h"
#include "meshfold.h"
#include "open.h"
#include "plan.h"
#include "probe.h"
#include "quantize.h"
#include "refine.h"
#include "sample.h"
#include "select.h"

namespace meshfold {
namespace {

// Items that are scored at a time: their codes stay in the first cache for the next query vector.
constexpr int64_t kBlock = Lookahead::kMost;
// Lines of 64 bytes of the next cluster that are asked for while one ends.
constexpr int64_t kLinesAhead = 16;
// Positions of a stretch where every survivor is scored.
constexpr int64_t kStretch = 16 * kBundle;
// Survivors that are scored together, about. Of a list of them, a thread takes as many at a time.
constexpr int64_t kWaiting = 1024;
// Of those that all go on.
constexpr float kNoScores[kWaiting + 64] = {};
// Bytes of items for each thread below which it takes longer to wake than to score them.
constexpr int64_t kLeastPerThread = 128 << 10;

// How, never what: measured settings of a device.
std::atomic<double> filter_first_below{1.0};
std::atomic<double> gather_below{0.5};
std::atomic<double> scan_ahead{static_cast<double>(usual_ahead())};
// Beyond, what was asked for is gone again when its turn comes.
constexpr double kMostAhead = 1 << 20;

// Where the survivors of a query are: in the clusters that it opens, or all of them, in bits or in a list.
enum class Way : uint8_t { clusters, bits, list };

struct Request {
  const float* vectors;
  int64_t tasks;
  Ivf ivf;
  FilterIndex index, sample;
  Programs programs;
  const int64_t *budget, *probes, *depth, *wanted;
  int64_t rescored, k;
  int64_t* positions;
  float* similarities;
  int64_t *opened, *scored;
  int threads;
};

// What a call allocates, kept for the next one of its thread.
struct Scratch {
  std::vector<Survivors> survivors;   // [B]
  std::vector<std::vector<int32_t>> lists;  // [B] - survivors to which posting lists led
  std::vector<Probe> probes;          // [B T]
  std::vector<Opened> opened;         // [B T]
  std::vector<Best> best;             // [threads, B T]
  std::vector<Pool> pools;            // [B T]
  Plan plan;
};

// What a thread needs of one query vector.
struct Slot {
  const CoarseQuery* query;         // null where all survivors go on
  const Survivors* survivors;       // null where every item passes
  Best* best;
  int64_t waiting = 0;              // survivors that wait to be scored
  int32_t at[kWaiting + 2 * 64];    // a word may be stored whole beyond the last
};

class Search {
 public:
  Search(const Request& request, Scratch& scratch) : r_(request), s_(scratch), slots_(r_.programs.queries * r_.tasks) {}

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
    const int64_t b = r_.programs.queries, d = r_.ivf.dimension;
    for (int64_t i = 0; i < b; ++i) {
      if (r_.depth[i] < 0 || r_.depth[i] > r_.k) throw Invalid("depth must lie from 0 to k");
      if (r_.budget[i] < 0 || r_.probes[i] < 0) throw Invalid("budget and probes must not be negative");
      filters_.push_back(std::make_unique<Filter>(r_.index, r_.programs, i));
    }
    codes_.resize(slots_ * d);
    residuals_.resize(slots_ * d);
    units_.resize(slots_);
    const Quantize quantize = quantize_for();
    for (int64_t s = 0; s < slots_; ++s) {
      units_[s] = quantize(r_.vectors + s * d, d, codes_.data() + s * d, residuals_.data() + s * d);
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

  // Finds the queries whose every survivor is scored because lists say who they are, and that they are few.
  void follow_lists() {
    const int64_t b = r_.programs.queries;
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (r_.threads > 1 && b > 1)
    for (int64_t i = 0; i < b; ++i) {
      if (!filters_[i]->has_lists() || r_.probes[i] < r_.ivf.clusters) continue;
      filters_[i]->listed(s_.lists[i]);
      const auto found = static_cast<int64_t>(s_.lists[i].size());
      if (found < r_.budget[i]) settle(i, Way::list, found);
    }
  }

  // Of a query that scores all survivors.
  void settle(int64_t i, Way way, int64_t survivors) {
    way_[i] = way;
    for (int64_t s = i * r_.tasks; s < (i + 1) * r_.tasks; ++s) {
      r_.opened[s] = r_.ivf.clusters;
      r_.scored[s] = survivors;
    }
  }

  // Evaluates whole filters where that pays, and finds the queries whose every survivor is scored.
  void filter_first() {
    const int64_t n = r_.ivf.items, size = std::min(n, kSample);
    for (int64_t i = 0; i < r_.programs.queries; ++i) {
      if (way_[i] == Way::list) continue;
      if (r_.probes[i] < r_.ivf.clusters) continue;
      const double passing = size ? static_cast<double>(sampled(r_.sample, r_.programs, i, n)) / size * n : 0;
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
    const int64_t b = r_.programs.queries;
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
    for (int64_t i = 0; i < r_.programs.queries; ++i) {
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
    // Whatever allocates does so where an exception may leave.
    std::vector<std::vector<Slot*>> dense(threads);
    for (auto& of_thread : dense) of_thread.reserve(slots_);
    std::atomic<int64_t> next{0};
    const int64_t units = s_.plan.size();
    // Clusters are small: a few at a time, so that threads seldom meet at the counter.
    const int64_t step = threads == 1 ? units : std::clamp<int64_t>(units / (threads * 16), 1, 16);
    const auto bytes_ahead = static_cast<int64_t>(std::min(scan_ahead.load(), kMostAhead));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      Slot* own = slots.data() + omp_get_thread_num() * slots_;
      for (int64_t at = next.fetch_add(step); at < units; at = next.fetch_add(step)) {
        const int64_t stop = std::min(at + step, units);
        Lookahead ahead(s_.plan, stop, r_.ivf, bytes_ahead);
        for (int64_t u = at; u < stop; ++u) score(u, own, dense[omp_get_thread_num()], ahead);
      }
      for (int64_t s = 0; s < slots_; ++s) flush(own[s]);
    }
  }

  // Of a query vector, the survivors that are scored again from 16 bits.
  int64_t pool_of(int64_t slot) const {
    const int64_t i = slot / r_.tasks, depth = r_.depth[i];
    return std::max(depth, std::clamp<int64_t>(r_.wanted[i], 0, depth) * r_.rescored);
  }

  // Where few survive they are read one by one. Else block by block, for a few query vectors at a time.
  void score(int64_t u, Slot* own, std::vector<Slot*>& dense, Lookahead& ahead) {
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
      const int64_t* next = ahead.next(u, first, items);
      if (!next && first + items == stretch.last) prefetch(u + 1);
      for (int64_t d = 0; d < count; d += kCoarseQueries) {
        run(dense.data() + d, static_cast<int>(std::min<int64_t>(kCoarseQueries, count - d)), first, items, next);
        // Once for all.
        next = nullptr;
      }
    }
  }

  // Asks for where another cluster begins: no processor foresees where that is, from there on it does.
  void prefetch(int64_t u) const {
    if (u == s_.plan.size() || s_.plan[u].list || s_.plan[u].first == s_.plan[u - 1].last) return;
    const uint8_t* coarse = r_.ivf.coarse + s_.plan[u].first * coarse_width(r_.ivf.dimension);
    for (int64_t line = 0; line < kLinesAhead; ++line) ask_for(coarse + 64 * line);
    ask_for(r_.ivf.units + s_.plan[u].first);
  }

  // Scores every item of a block.
  void run(Slot* const* slots, int count, int64_t first, int64_t items, const int64_t* ahead) {
    float scores[kCoarseQueries * kBlock];
    const CoarseQuery* queries[kCoarseQueries];
    for (int q = 0; q < count; ++q) queries[q] = slots[q]->query;
    const uint8_t* coarse = r_.ivf.coarse + first * coarse_width(r_.ivf.dimension);
    coarse_scores(queries, count, coarse, r_.ivf.units + first, items, ahead, scores, kBlock);
    for (int q = 0; q < count; ++q) {
      const Survivors* survivors = slots[q]->survivors;
      slots[q]->best->offer(scores + q * kBlock, items, first, survivors ? survivors->words() : nullptr);
    }
  }

  // Lets survivors wait until enough are there.
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
    slot.query->gather(r_.ivf.coarse, r_.ivf.units, at, count, scores);
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
    const FineQueries queries(codes_.data(), residuals_.data(), units_.data(), slots_, r_.ivf.dimension);
    const FineItems items{r_.ivf.codes, r_.ivf.residuals, r_.ivf.units, r_.ivf.dimension, r_.ivf.stride};
    Pool* const pools = s_.pools.data();
    rescore(queries, items, pools, slots_, r_.threads);
#pragma omp parallel for num_threads(r_.threads) schedule(dynamic) if (r_.threads > 1 && slots_ > 1)
    for (int64_t s = 0; s < slots_; ++s) {
      pools[s].best(r_.depth[s / r_.tasks], r_.k, r_.ivf.rows, r_.positions + s * r_.k, r_.similarities + s * r_.k);
    }
  }

  const Request& r_;
  Scratch& s_;
  int64_t slots_;
  std::vector<std::unique_ptr<Filter>> filters_;
  std::vector<int8_t> codes_, residuals_;  // [B T, D]
  std::vector<float> units_;               // [B T]
  std::vector<Way> way_;
  int team_ = 1;
};

}  // namespace
}  // namespace meshfold

// How a search goes about it on this device, from measurements; no answer depends on it. filter_first: a filter is
// evaluated for all items first where fewer than so many times the budget are expected to pass. gather: survivors of a
// cluster are read one by one where they are a smaller share of it. ahead: bytes of a scan that are asked for before
// their turn.
MESHFOLD_API void meshfold_tune(double filter_first, double gather, double ahead) {
  meshfold::filter_first_below = filter_first;
  meshfold::gather_below = gather;
  meshfold::scan_ahead = ahead;
}

// vectors: [B, T, D] -> found, 8 bytes each: positions: [B, T, k], best first, opened, scored: [B, T]; then similarities:
// [B, T, k], of 4 bytes; as kernels/search.py names them.
MESHFOLD_API int32_t meshfold_search(const float* vectors, int32_t tasks, const meshfold::Ivf* ivf,
                                     const meshfold::FilterIndex* index, const meshfold::FilterIndex* sample,
                                     const meshfold::Programs* programs, const meshfold::Limits* limits, int32_t k,
                                     int64_t* found, int32_t threads) {
  return meshfold::guarded([&] {
    static thread_local meshfold::Scratch scratch;
    const int64_t slots = programs->queries * tasks;
    int64_t* const opened = found + slots * k;
    int64_t* const scored = opened + slots;
    auto* const similarities = reinterpret_cast<float*>(scored + slots);
    const meshfold::Request request{vectors, tasks, *ivf, *index, *sample, *programs, limits->budget, limits->probes,
                                    limits->depth, limits->wanted, limits->rescored, k, found, similarities, opened,
                                    scored, threads};
    meshfold::Search(request, scratch).run();
  });
}
