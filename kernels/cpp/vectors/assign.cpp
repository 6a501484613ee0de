// The nearest centroid of each item: a product of two Int8 matrices that keeps only the best of every row.
//
// A panel interleaves centroids: `span` values of one cluster, then those of the next one. A register thus holds the
// same dimensions of many clusters, and an item's values are broadcast against it. The totals of a group of items and a
// panel stay in registers. A tile of items, with the best so far in cache, passes one panel after another.
#include <omp.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

struct Job {
  const int8_t* codes;       // [n, D]
  const float* factors;      // [n]
  const int8_t* centroids;   // [C, D]
  const float* scales;       // [C]
  const float* lengths;      // [C]
  int64_t items;
  int64_t clusters;
  int64_t dimension;
  int64_t* members;          // [n]
  float* closeness;          // [n]
  int threads;
};

// Zeros aligned to a cache line.
template <class V>
class Aligned {
 public:
  explicit Aligned(int64_t count) : lines_((count * static_cast<int64_t>(sizeof(V)) + 63) / 64) {}
  V* data() { return reinterpret_cast<V*>(lines_.data()); }
  const V* data() const { return reinterpret_cast<const V*>(lines_.data()); }

 private:
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> lines_;
};

// Clusters in the layout of the inner loop. first: the smallest.
template <class V>
struct Panel {
  const V* values;           // [steps, panel, span]
  const float* scales;       // [panel]
  const float* lengths;      // [panel]
  int32_t first;
};

// Items, and the best of each so far in every lane: the value, and the first cluster of its register.
template <class V>
struct Group {
  const V* values;           // [group, steps * span]
  const float* factors;      // [group]
  const int32_t* offsets;    // [group] - initial totals
  float* best;               // [group, lanes]
  int32_t* at;               // [group, lanes]
};

// Most items of a tile, and most bytes: many for each use of a panel, few to stay in cache.
constexpr int64_t kTile = 256;
constexpr int64_t kTileBytes = 1 << 17;
constexpr float kFar = std::numeric_limits<float>::infinity();

inline int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// A step is 64 values of every cluster: compilers have an instruction for a dot of 16-bit values that lie side by side.
struct Plain {
  using Centroid = int16_t;
  using Item = int16_t;
  static constexpr int64_t span = 64, lanes = 16, panel = 16, group = 1;
  static constexpr int bias = 0;

  static void run(const Panel<Centroid>& c, const Group<Item>& x, int64_t steps) {
    int32_t totals[lanes] = {};
    for (int64_t s = 0; s < steps; ++s) {
      for (int64_t j = 0; j < lanes; ++j) {
        const int16_t* of = c.values + (s * panel + j) * span;
        const int16_t* with = x.values + s * span;
        int32_t total = 0;
        for (int64_t k = 0; k < span; ++k) total += static_cast<int32_t>(with[k]) * of[k];
        totals[j] += total;
      }
    }
    for (int64_t j = 0; j < lanes; ++j) {
      const float near = static_cast<float>(totals[j]) * c.scales[j] * x.factors[0] - c.lengths[j];
      const bool better = near > x.best[j];
      x.best[j] = better ? near : x.best[j];
      x.at[j] = better ? c.first : x.at[j];
    }
  }
};

#if MESHFOLD_X86

struct Avx2 {
  using Centroid = int16_t;
  using Item = int16_t;
  static constexpr int64_t span = 2, lanes = 8, panel = 16, group = 6;
  static constexpr int bias = 0;

  MESHFOLD_AVX2 static void run(const Panel<Centroid>& c, const Group<Item>& x, int64_t steps) {
    constexpr int kItems = group, kBlocks = panel / lanes;
    __m256i totals[kItems][kBlocks];
#pragma GCC unroll 6
    for (int i = 0; i < kItems; ++i) {
#pragma GCC unroll 2
      for (int b = 0; b < kBlocks; ++b) totals[i][b] = _mm256_setzero_si256();
    }
    for (int64_t s = 0; s < steps; ++s) {
      __m256i of[kBlocks];
#pragma GCC unroll 2
      for (int b = 0; b < kBlocks; ++b) {
        of[b] = _mm256_load_si256(reinterpret_cast<const __m256i*>(c.values + (s * panel + b * lanes) * span));
      }
#pragma GCC unroll 6
      for (int i = 0; i < kItems; ++i) {
        int32_t pair;
        __builtin_memcpy(&pair, x.values + (i * steps + s) * span, sizeof pair);
        const __m256i value = _mm256_set1_epi32(pair);
#pragma GCC unroll 2
        for (int b = 0; b < kBlocks; ++b) {
          totals[i][b] = _mm256_add_epi32(totals[i][b], _mm256_madd_epi16(of[b], value));
        }
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kItems; ++i) {
      __m256 best = _mm256_load_ps(x.best + i * lanes);
      __m256 at = _mm256_load_ps(reinterpret_cast<const float*>(x.at + i * lanes));
#pragma GCC unroll 2
      for (int b = 0; b < kBlocks; ++b) {
        // Without it, gcc converts inside the loop above and runs out of registers.
        asm("" : "+x"(totals[i][b]));
        __m256 near = _mm256_mul_ps(_mm256_cvtepi32_ps(totals[i][b]), _mm256_load_ps(c.scales + b * lanes));
        near = _mm256_mul_ps(near, _mm256_set1_ps(x.factors[i]));
        near = _mm256_sub_ps(near, _mm256_load_ps(c.lengths + b * lanes));
        const __m256 better = _mm256_cmp_ps(near, best, _CMP_GT_OQ);
        const __m256i here = _mm256_set1_epi32(c.first + b * static_cast<int>(lanes));
        best = _mm256_blendv_ps(best, near, better);
        at = _mm256_blendv_ps(at, _mm256_castsi256_ps(here), better);
      }
      _mm256_store_ps(x.best + i * lanes, best);
      _mm256_store_ps(reinterpret_cast<float*>(x.at + i * lanes), at);
    }
  }
};

// VPDPBUSD multiplies unsigned by signed bytes: centroids are raised by 128, and totals start at -128 times the sum of
// the item's codes.
struct Avx512 {
  using Centroid = uint8_t;
  using Item = int8_t;
  static constexpr int64_t span = 4, lanes = 16, panel = 48, group = 8;
  static constexpr int bias = 128;

  MESHFOLD_AVX512 static void run(const Panel<Centroid>& c, const Group<Item>& x, int64_t steps) {
    constexpr int kItems = group, kBlocks = panel / lanes;
    __m512i totals[kItems][kBlocks];
#pragma GCC unroll 8
    for (int i = 0; i < kItems; ++i) {
#pragma GCC unroll 3
      for (int b = 0; b < kBlocks; ++b) totals[i][b] = _mm512_set1_epi32(x.offsets[i]);
    }
    for (int64_t s = 0; s < steps; ++s) {
      __m512i of[kBlocks];
#pragma GCC unroll 3
      for (int b = 0; b < kBlocks; ++b) {
        of[b] = _mm512_load_si512(c.values + (s * panel + b * lanes) * span);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kItems; ++i) {
        int32_t four;
        __builtin_memcpy(&four, x.values + (i * steps + s) * span, sizeof four);
        const __m512i value = _mm512_set1_epi32(four);
#pragma GCC unroll 3
        for (int b = 0; b < kBlocks; ++b) totals[i][b] = _mm512_dpbusd_epi32(totals[i][b], of[b], value);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kItems; ++i) {
      __m512 best = _mm512_load_ps(x.best + i * lanes);
      __m512i at = _mm512_load_si512(x.at + i * lanes);
#pragma GCC unroll 3
      for (int b = 0; b < kBlocks; ++b) {
        // As above.
        asm("" : "+v"(totals[i][b]));
        __m512 near = _mm512_mul_ps(_mm512_cvtepi32_ps(totals[i][b]), _mm512_load_ps(c.scales + b * lanes));
        near = _mm512_mul_ps(near, _mm512_set1_ps(x.factors[i]));
        near = _mm512_sub_ps(near, _mm512_load_ps(c.lengths + b * lanes));
        const __mmask16 better = _mm512_cmp_ps_mask(near, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, better, near);
        at = _mm512_mask_mov_epi32(at, better, _mm512_set1_epi32(c.first + b * static_cast<int>(lanes)));
      }
      _mm512_store_ps(x.best + i * lanes, best);
      _mm512_store_si512(x.at + i * lanes, at);
    }
  }
};

#endif

// All centroids as panels; clusters beyond the last are infinitely far.
template <class Level>
struct Packed {
  using V = typename Level::Centroid;
  int64_t steps, panels;
  Aligned<V> values;
  Aligned<float> scales, lengths;

  explicit Packed(const Job& job)
      : steps(up(job.dimension, Level::span) / Level::span),
        panels(up(job.clusters, Level::panel) / Level::panel),
        values(panels * Level::panel * steps * Level::span),
        scales(panels * Level::panel),
        lengths(panels * Level::panel) {
    std::copy_n(job.scales, job.clusters, scales.data());
    std::copy_n(job.lengths, job.clusters, lengths.data());
    std::fill(lengths.data() + job.clusters, lengths.data() + panels * Level::panel, kFar);
    for (int64_t c = 0; c < job.clusters; ++c) {
      V* of = values.data() + c / Level::panel * Level::panel * steps * Level::span + c % Level::panel * Level::span;
      const int8_t* from = job.centroids + c * job.dimension;
      for (int64_t d = 0; d < job.dimension; ++d) {
        of[d / Level::span * Level::panel * Level::span + d % Level::span] = static_cast<V>(from[d] + Level::bias);
      }
    }
  }

  Panel<V> panel(int64_t p) const {
    const int64_t first = p * Level::panel;
    return {values.data() + first * steps * Level::span, scales.data() + first, lengths.data() + first,
            static_cast<int32_t>(first)};
  }
};

// Scratch of a thread.
template <class Level>
struct Tile {
  using V = typename Level::Item;
  int64_t width;
  Aligned<V> values;
  Aligned<float> factors, best;
  Aligned<int32_t> offsets, at;

  Tile(int64_t size, int64_t steps)
      : width(steps * Level::span),
        values(size * width),
        factors(size),
        best(size * Level::lanes),
        offsets(size),
        at(size * Level::lanes) {}

  // Takes items start to stop - 1, then zeros up to a whole group. Returns the number of both.
  int64_t fill(const Job& job, int64_t start, int64_t stop) {
    const int64_t real = stop - start, all = up(real, Level::group);
    std::fill_n(values.data(), all * width, V{0});
    std::fill_n(factors.data(), all, 0.0f);
    std::fill_n(offsets.data(), all, 0);
    std::fill_n(best.data(), all * Level::lanes, -kFar);
    std::fill_n(at.data(), all * Level::lanes, 0);
    for (int64_t i = 0; i < real; ++i) {
      const int8_t* from = job.codes + (start + i) * job.dimension;
      V* to = values.data() + i * width;
      int32_t sum = 0;
      for (int64_t d = 0; d < job.dimension; ++d) {
        to[d] = from[d];
        sum += from[d];
      }
      factors.data()[i] = job.factors[start + i];
      offsets.data()[i] = -Level::bias * sum;
    }
    return all;
  }

  Group<V> group(int64_t i) {
    return {values.data() + i * width, factors.data() + i, offsets.data() + i, best.data() + i * Level::lanes,
            at.data() + i * Level::lanes};
  }

  // The best over the lanes of item i; ties to the smaller cluster.
  void finish(int64_t i, int64_t* member, float* closeness) {
    const Group<V> x = group(i);
    float near = x.best[0];
    int64_t cluster = x.at[0];
    for (int64_t j = 1; j < Level::lanes; ++j) {
      const int64_t other = x.at[j] + j;
      if (x.best[j] > near || (x.best[j] == near && other < cluster)) {
        near = x.best[j];
        cluster = other;
      }
    }
    *member = cluster;
    *closeness = near;
  }
};

template <class Level>
void assign(const Job& job) {
  const Packed<Level> packed(job);
  const int64_t row = packed.steps * Level::span * static_cast<int64_t>(sizeof(typename Level::Item));
  const int64_t size = std::max(Level::group, std::min(kTile, kTileBytes / row) / Level::group * Level::group);
  const int64_t tiles = (job.items + size - 1) / size;
  std::vector<Tile<Level>> spaces;
  spaces.reserve(job.threads);
  for (int t = 0; t < job.threads; ++t) spaces.emplace_back(size, packed.steps);
#pragma omp parallel for schedule(dynamic) num_threads(job.threads)
  for (int64_t t = 0; t < tiles; ++t) {
    Tile<Level>& tile = spaces[omp_get_thread_num()];
    const int64_t start = t * size, stop = std::min(job.items, start + size);
    const int64_t all = tile.fill(job, start, stop);
    for (int64_t p = 0; p < packed.panels; ++p) {
      const Panel<typename Level::Centroid> panel = packed.panel(p);
      for (int64_t i = 0; i < all; i += Level::group) Level::run(panel, tile.group(i), packed.steps);
    }
    for (int64_t i = start; i < stop; ++i) tile.finish(i - start, job.members + i, job.closeness + i);
  }
}

}  // namespace
}  // namespace meshfold

// codes: [n, D], factors: [n], centroids: [C, D], scales, lengths: [C] -> members: [n], closeness: [n].
MESHFOLD_API int32_t meshfold_assign(const int8_t* codes, const float* factors, const int8_t* centroids,
                                     const float* scales, const float* lengths, int64_t items, int64_t clusters,
                                     int64_t dimension, int64_t* members, float* closeness, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    if (clusters < 1 || clusters > std::numeric_limits<int32_t>::max() - 64) {
      throw Invalid("centroids must be 1 to 2^31 - 65, got " + std::to_string(clusters));
    }
    if (dimension < 1 || dimension > 65536) {
      throw Invalid("codes must have 1 to 65,536 dimensions, got " + std::to_string(dimension));
    }
    const Job job{codes,     factors,   centroids, scales,  lengths, items,
                  clusters,  dimension, members,   closeness, std::max(1, threads)};
    switch (isa()) {
#if MESHFOLD_X86
      case Isa::avx512: return assign<Avx512>(job);
      case Isa::avx2: return assign<Avx2>(job);
#endif
      default: return assign<Plain>(job);
    }
  });
}
