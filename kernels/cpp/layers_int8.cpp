// Linear layers one after another in integers, a few rows at a time through all of them; kernels/layers_int8.py has the
// formula.
//
// Inputs and weights lie as 32-bit words of neighbouring inputs: four bytes, of which a VNNI instruction adds the four
// products at once, or two 16-bit values, of which AVX2 adds the two. Weights are packed in panels of 32 outputs, the
// last of 16 where that is enough: [words][32]. A group of 12 rows is multiplied by a panel at once. VNNI takes inputs
// as unsigned bytes: to signed codes 128 is added, and a sum starts at what that is too much.
//
// A sum is exact, whatever its order; what follows are single IEEE operations, multiply and add apart, so that every
// level gives the same bytes.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "codes.h"
#include "entry.h"
#include "isa.h"
#include "leaf.h"
#include "meshfold.h"
#include "room.h"

namespace meshfold {
namespace {

// Outputs that are multiplied at once, rows of a group.
constexpr int64_t kPanel = 32, kGroup = 12;
// Groups that go through all layers together: their values stay in a core's caches, beside the weights.
constexpr int64_t kGroups = 2;
// A part of so few columns is taken as 16-bit integers: similarities differ in less than a code tells.
constexpr int64_t kFineColumns = 16;
// Multiplications and additions below which other threads take longer to start than the work.
constexpr int64_t kParallel = 1 << 22;

// One part of a layer's inputs. x: kGroup rows of `words`, `stride` apart. weights: [words][width], width 16 or kPanel.
// fine: whether a word is a single integer, of x as of weights. starts: [width], what a sum begins at; 0 of fine parts.
// units: of the rows. scales:
// [width], of the outputs. out: `width` values of each row, rows `out_stride` apart: the part is added to what stands
// there unless it is the first. bias: [width] of the last part, or null.
struct Term {
  const int32_t* x;
  int64_t stride, words;
  bool fine;
  const int32_t* weights;
  const int32_t* starts;
  const float* units;
  const float* scales;
  const float* bias;
  bool first, relu;
  int64_t width;
  float* out;
  int64_t out_stride;
};

using Product = void (*)(const Term& term);

// totals: [kGroup][width] of a group and a panel.
void multiply_plain(const int32_t* x, const Term& term, int32_t* totals) {
  constexpr int64_t kColumns = 16;
  for (int64_t row = 0; row < kGroup; ++row) {
    for (int64_t column = 0; column < term.width; column += kColumns) {
      int32_t sums[kColumns];
      int32_t* to = totals + row * term.width + column;
      std::memcpy(sums, term.starts + column, sizeof sums);
      for (int64_t j = 0; j < term.words; ++j) {
        int16_t pair[2], weights[2 * kColumns];
        std::memcpy(pair, x + row * term.stride + j, sizeof pair);
        std::memcpy(weights, term.weights + j * term.width + column, sizeof weights);
        for (int64_t c = 0; c < kColumns; ++c) sums[c] += pair[0] * weights[2 * c] + pair[1] * weights[2 * c + 1];
      }
      std::memcpy(to, sums, sizeof sums);
    }
  }
}

#if MESHFOLD_X86

MESHFOLD_AVX2 void multiply_avx2(const int32_t* x, const Term& term, int32_t* totals) {
  // 12 of 16 registers hold sums, two weights, one an input.
  constexpr int kRows = 6;
  const int64_t width = term.width, stride = term.stride, words = term.words;
  for (int64_t column = 0; column < width; column += 16) {
    for (int64_t row = 0; row < kGroup; row += kRows) {
      const int32_t* from = x + row * stride;
      const int32_t* weights = term.weights + column;
      int32_t* to = totals + row * width + column;
      __m256i sums[kRows][2];
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(term.starts + column));
        sums[r][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(term.starts + column + 8));
      }
      for (int64_t j = 0; j < words; ++j, weights += width) {
        const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
        const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + 8));
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const __m256i pair = _mm256_set1_epi32(from[r * stride + j]);
          sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(pair, left));
          sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(pair, right));
        }
      }
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * width), sums[r][0]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * width + 8), sums[r][1]);
      }
    }
  }
}

template <int kVectors>
MESHFOLD_AVX512 void multiply_panel(const int32_t* x, int64_t stride, int64_t words, const int32_t* weights,
                                    const int32_t* starts, int32_t* totals) {
  __m512i sums[kGroup][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) sums[r][c] = _mm512_loadu_si512(starts + 16 * c);
  }
  for (int64_t j = 0; j < words; ++j, weights += 16 * kVectors) {
    __m512i weight[kVectors];
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) weight[c] = _mm512_loadu_si512(weights + 16 * c);
#pragma GCC unroll 12
    for (int r = 0; r < kGroup; ++r) {
      const __m512i four = _mm512_set1_epi32(x[r * stride + j]);
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], four, weight[c]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kGroup; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kVectors; ++c) _mm512_storeu_si512(totals + 16 * (r * kVectors + c), sums[r][c]);
  }
}

MESHFOLD_AVX512 void multiply_avx512(const int32_t* x, const Term& term, int32_t* totals) {
  if (term.width == kPanel) {
    multiply_panel<2>(x, term.stride, term.words, term.weights, term.starts, totals);
  } else {
    multiply_panel<1>(x, term.stride, term.words, term.weights, term.starts, totals);
  }
}

#endif

// Rows of totals as floats: added to what stands there, then the bias and max(0, .), where the term is not the first, is
// the last.
template <int64_t kWidth, bool kFirst, bool kLast>
MESHFOLD_INLINE void weigh(const Term& term, const int32_t* totals) {
  for (int64_t r = 0; r < kGroup; ++r, totals += kWidth) {
    const float unit = term.units[r];
    float* out = term.out + r * term.out_stride;
    float sums[kWidth];
    for (int64_t c = 0; c < kWidth; ++c) {
      const float part = static_cast<float>(totals[c]) * (unit * term.scales[c]);
      sums[c] = kFirst ? part : out[c] + part;
      if (kLast) sums[c] = sums[c] + term.bias[c];
    }
    if (kLast && term.relu) {
      for (int64_t c = 0; c < kWidth; ++c) out[c] = sums[c] < 0 ? 0 : sums[c];
    } else {
      for (int64_t c = 0; c < kWidth; ++c) out[c] = sums[c];
    }
  }
}

template <int64_t kWidth, class Multiply>
MESHFOLD_INLINE void product_of(const Term& term, Multiply multiply) {
  alignas(64) int32_t totals[kGroup * kWidth];
  if (!term.fine) {
    multiply(term.x, term, totals);
  } else {
    for (int32_t& total : totals) total = 0;
    for (int64_t r = 0; r < kGroup; ++r) {
      for (int64_t j = 0; j < term.words; ++j) {
        const int32_t value = term.x[r * term.stride + j];
        for (int64_t c = 0; c < kWidth; ++c) totals[r * kWidth + c] += value * term.weights[j * kWidth + c];
      }
    }
  }
  if (term.bias == nullptr) {
    term.first ? weigh<kWidth, true, false>(term, totals) : weigh<kWidth, false, false>(term, totals);
  } else {
    term.first ? weigh<kWidth, true, true>(term, totals) : weigh<kWidth, false, true>(term, totals);
  }
}

// The whole term: exact totals, then floats of them.
template <class Multiply>
MESHFOLD_INLINE void product(const Term& given, Multiply multiply) {
  // A copy, which no store can change.
  const Term term = given;
  if (term.width == kPanel) {
    product_of<kPanel>(term, multiply);
  } else {
    product_of<kPanel / 2>(term, multiply);
  }
}

void plain(const Term& term) { product(term, multiply_plain); }

#if MESHFOLD_X86

MESHFOLD_AVX2 void avx2(const Term& term) { product(term, multiply_avx2); }

MESHFOLD_AVX512 void avx512(const Term& term) { product(term, multiply_avx512); }

#endif

// Floats of a row as the words of a level: its codes. `Held`: of a value, `bias`: what is added to signed ones.
template <class Held>
MESHFOLD_INLINE float signed_codes(const float* x, int64_t count, int32_t bias, Held* codes) {
  const float peak = peak_of(x, count), factor = factor_of(peak, kFinePeak);
  if (factor == 0) {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Held>(bias);
  } else {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Held>(((nearest(x[j] * factor) + 128) >> 8) + bias);
  }
  return peak;
}

// The same of few values, a word each.
MESHFOLD_INLINE float fine_words(const float* x, int64_t count, int32_t* words) {
  const float peak = peak_of(x, count), factor = factor_of(peak, kFinePeak);
  for (int64_t j = 0; j < count; ++j) words[j] = factor == 0 ? 0 : nearest(x[j] * factor);
  return peak;
}

// The same of values that are not below 0.
template <class Held>
MESHFOLD_INLINE float positive_codes(const float* x, int64_t count, Held* codes) {
  const float peak = peak_of(x, count), factor = factor_of(peak, kPositivePeak);
  if (factor == 0) {
    for (int64_t j = 0; j < count; ++j) codes[j] = 0;
  } else {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Held>(nearest(x[j] * factor));
  }
  return peak;
}

template <class Held>
MESHFOLD_INLINE void stored_codes(const int8_t* from, int64_t count, int32_t bias, Held* codes) {
  for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Held>(from[j] + bias);
}

enum class From : int { floats, fine, relu, codes };

// One row: `count` values to words. Returns the peak; of codes, which have one already, 0.
template <class Held>
MESHFOLD_INLINE float to_words(From from, const void* x, int64_t count, int32_t* words) {
  constexpr int32_t kBias = sizeof(Held) == 1 ? 128 : 0;
  auto* codes = reinterpret_cast<Held*>(words);
  if (from == From::relu) return positive_codes(static_cast<const float*>(x), count, codes);
  if (from == From::fine) return fine_words(static_cast<const float*>(x), count, words);
  if (from == From::floats) return signed_codes(static_cast<const float*>(x), count, kBias, codes);
  stored_codes(static_cast<const int8_t*>(x), count, kBias, codes);
  return 0;
}

using Words = float (*)(From from, const void* x, int64_t count, int32_t* words);

float words_plain(From from, const void* x, int64_t count, int32_t* words) {
  return to_words<int16_t>(from, x, count, words);
}

#if MESHFOLD_X86

MESHFOLD_AVX2 float words_avx2(From from, const void* x, int64_t count, int32_t* words) {
  return to_words<int16_t>(from, x, count, words);
}

MESHFOLD_AVX512 float words_avx512(From from, const void* x, int64_t count, int32_t* words) {
  return to_words<uint8_t>(from, x, count, words);
}

#endif

// values: of a word.
struct Level {
  Product product;
  Words words;
  int64_t values;
};

Level chosen() {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return {avx512, words_avx512, 4};
  if (isa() == Isa::avx2) return {avx2, words_avx2, 2};
#endif
  return {plain, words_plain, 2};
}

// Weights as they are held: a row's codes, then the bytes of its peaks, one a part.
struct Weights {
  const int8_t* rows;
  int64_t inner, parts;
  const int8_t* row(int64_t m) const { return rows + m * (inner + parts * static_cast<int64_t>(sizeof(float))); }
  float scale(int64_t m, int64_t part) const {
    float peak;
    std::memcpy(&peak, row(m) + inner + part * sizeof peak, sizeof peak);
    return unit_of(peak, kWeightPeak);
  }
};

// A part of a layer's inputs and the weights of it, packed. at, columns: where it stands. word: where its words stand.
struct Part {
  int64_t at, columns, word, words;
  bool fine, biased;
  int32_t* weights;
  int32_t* starts;
  float* scales;
};

struct Layer {
  Weights weights;
  const float* bias;  // [outputs] or null
  int64_t outputs, padded, words;
  bool relu;
  std::vector<Part> parts;
  float* packed_bias;

  int64_t panels() const { return (padded + kPanel - 1) / kPanel; }
};

// The words of a row's codes, `width` apart; zeros after the last.
template <class Held>
void pack_row(const int8_t* codes, int64_t columns, int64_t width, int32_t* to) {
  constexpr int64_t kValues = sizeof(int32_t) / sizeof(Held);
  Held held[kValues];
  int64_t start = 0;
  for (; start + kValues <= columns; start += kValues, to += width) {
    for (int64_t j = 0; j < kValues; ++j) held[j] = codes[start + j];
    std::memcpy(to, held, sizeof held);
  }
  if (start == columns) return;
  for (int64_t j = 0; j < kValues; ++j) held[j] = start + j < columns ? codes[start + j] : 0;
  std::memcpy(to, held, sizeof held);
}

// The panel of the outputs from `first` on; those beyond the last are 0.
void pack(const Layer& layer, int64_t first, int64_t values) {
  const int64_t width = std::min(kPanel, layer.padded - first), held = std::min(width, layer.outputs - first);
  for (int64_t c = 0; c < width; ++c) {
    // 0 added makes -0 a 0.
    layer.packed_bias[first + c] = layer.bias != nullptr && c < held ? layer.bias[first + c] + 0.0f : 0;
  }
  for (size_t p = 0; p < layer.parts.size(); ++p) {
    const Part& part = layer.parts[p];
    int32_t* to = part.weights + first * part.words;
    for (int64_t c = 0; c < width; ++c) {
      part.scales[first + c] = c < held ? layer.weights.scale(first + c, static_cast<int64_t>(p)) : 0;
      int32_t sum = 0;
      if (c >= held) {
        for (int64_t w = 0; w < part.words; ++w) to[w * width + c] = 0;
      } else {
        const int8_t* row = layer.weights.row(first + c) + part.at;
        if (part.fine) {
          pack_row<int32_t>(row, part.columns, width, to + c);
        } else if (values == 4) {
          pack_row<int8_t>(row, part.columns, width, to + c);
        } else {
          pack_row<int16_t>(row, part.columns, width, to + c);
        }
        for (int64_t j = 0; part.biased && !part.fine && values == 4 && j < part.columns; ++j) sum += row[j];
      }
      part.starts[first + c] = -128 * sum;
    }
  }
}

// Tensors of M rows, side by side. peaks: of codes, null of floats.
struct Inputs {
  const void* const* values;
  const float* const* peaks;
  const int64_t* columns;
  const int64_t* row_strides;
  const int64_t* column_strides;
  int64_t count;
};

// A thread's own: words of the rows of a block, what a layer gives, and units a part and row.
struct Space {
  int32_t* words;
  float* sums;
  float* row;
  float* units;
};

// A row of an input as words; returns its unit.
float take(const Inputs& given, int64_t input, int64_t row, const Part& part, const Level& level, const Space& space,
           int64_t at) {
  int32_t* words = space.words + at + part.word;
  const int64_t columns = given.columns[input], stride = given.column_strides[input];
  if (given.peaks[input] != nullptr) {
    level.words(From::codes, static_cast<const int8_t*>(given.values[input]) + row * given.row_strides[input], columns,
                words);
    return unit_of(given.peaks[input][row], kWeightPeak);
  }
  const float* from = static_cast<const float*>(given.values[input]) + row * given.row_strides[input];
  if (stride != 1) {
    for (int64_t c = 0; c < columns; ++c) space.row[c] = from[c * stride];
    from = space.row;
  }
  const float peak = level.words(part.fine ? From::fine : From::floats, from, columns, words);
  return unit_of(peak, part.fine ? kFinePeak : kWeightPeak);
}

void check(const Inputs& given, const int64_t* widths, int64_t count) {
  constexpr int64_t kMost = 65536;
  for (int64_t p = 0; p < given.count; ++p) {
    if (given.columns[p] < 1) throw Invalid("every input must have a column");
  }
  for (int64_t l = 0; l <= count; ++l) {
    if (widths[l] < 1 || widths[l] > kMost) {
      throw Invalid("layers must be 1 to 65536 wide, got " + std::to_string(widths[l]));
    }
  }
}

}  // namespace
}  // namespace meshfold

// inputs: [P] - pointers to [M, columns[p]] values, whose rows and columns are row_strides[p] and column_strides[p]
// apart: floats, or codes, which lie side by side and have peaks[p]: [M]. widths: [L + 1] - of x and of each layer's
// outputs. weights: [L] - rows of widths[l] codes and a peak a part: P of the first layer, 1 of others. biases: [L] -
// [widths[l + 1]] or null. relus: [L] -> out: [M, widths[L]].
MESHFOLD_API int32_t meshfold_layers_int8(const void* const* inputs, const float* const* peaks, const int64_t* columns,
                                          const int64_t* row_strides, const int64_t* column_strides, int64_t parts,
                                          int64_t rows, const int8_t* const* weights, const float* const* biases,
                                          const int64_t* widths, const bool* relus, int64_t count, float* out,
                                          int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const Inputs given{inputs, peaks, columns, row_strides, column_strides, parts};
    check(given, widths, count);
    const Level level = chosen();
    std::vector<Layer> layers(count);
    int64_t size = 0, products = 0, panels = 0, most_words = 0, widest = 0;
    for (int64_t l = 0; l < count; ++l) {
      const int64_t padded = (widths[l + 1] + 15) / 16 * 16, split = l == 0 ? parts : 1;
      Layer& layer = layers[l];
      layer = {{weights[l], widths[l], split}, biases[l], widths[l + 1], padded, 0, relus[l], {}, nullptr};
      int64_t at = 0;
      for (int64_t p = 0; p < split; ++p) {
        const int64_t own = l == 0 ? columns[p] : widths[l], packed = (own + level.values - 1) / level.values;
        const bool fine = l == 0 && peaks[p] == nullptr && own <= kFineColumns;
        const int64_t words = fine ? own : packed;
        const bool biased = l == 0 || !relus[l - 1];
        layer.parts.push_back({at, own, layer.words, words, fine, biased, nullptr, nullptr, nullptr});
        at += own;
        layer.words += words;
        size += padded * (words + 2);
      }
      size += padded;
      products += widths[l] * padded;
      panels += layer.panels();
      most_words = std::max(most_words, layer.words);
      widest = std::max({widest, padded, widths[l]});
    }
    const Room<int32_t> packed = room<int32_t>(size);
    int32_t* next = packed.get();
    for (Layer& layer : layers) {
      for (Part& part : layer.parts) {
        part.weights = next;
        part.starts = next + layer.padded * part.words;
        part.scales = reinterpret_cast<float*>(part.starts + layer.padded);
        next += layer.padded * (part.words + 2);
      }
      layer.packed_bias = reinterpret_cast<float*>(next);
      next += layer.padded;
    }
    const int team = std::max(1, threads);
    const int64_t block = kGroups * kGroup, units = block * std::max<int64_t>(parts, 1);
    const int64_t own = (block * most_words + block * widest + widest + units + 15) / 16 * 16;
    const Room<int32_t> spaces = room<int32_t>(own * team);
    std::memset(spaces.get(), 0, sizeof(int32_t) * own * team);
#pragma omp parallel if (rows > block && rows * products > kParallel) num_threads(team)
    {
      int32_t* mine = spaces.get() + own * omp_get_thread_num();
      Space space;
      space.words = mine;
      space.sums = reinterpret_cast<float*>(mine + block * most_words);
      space.row = space.sums + block * widest;
      space.units = space.row + widest;
#pragma omp for schedule(dynamic)
      for (int64_t panel = 0; panel < panels; ++panel) {
        int64_t left = panel;
        const Layer* layer = layers.data();
        for (; left >= layer->panels(); ++layer) left -= layer->panels();
        pack(*layer, left * kPanel, level.values);
      }
#pragma omp for schedule(dynamic)
      for (int64_t start = 0; start < rows; start += block) {
        const int64_t real = std::min(block, rows - start), filled = (real + kGroup - 1) / kGroup * kGroup;
        for (int64_t l = 0; l < count; ++l) {
          const Layer& layer = layers[l];
          // Rows beyond the last are the last.
          for (int64_t p = 0; p < static_cast<int64_t>(layer.parts.size()); ++p) {
            for (int64_t r = 0; r < filled; ++r) {
              float* unit = space.units + p * block + r;
              const Part& part = layer.parts[p];
              if (l == 0) {
                *unit = take(given, p, start + std::min(r, real - 1), part, level, space, r * layer.words);
              } else {
                const float* from = space.sums + r * layers[l - 1].padded;
                const float peak = level.words(part.biased ? From::floats : From::relu, from, part.columns,
                                               space.words + r * layer.words);
                *unit = unit_of(peak, part.biased ? kWeightPeak : kPositivePeak);
              }
            }
          }
          for (int64_t first = 0; first < layer.padded; first += kPanel) {
            const int64_t width = std::min(kPanel, layer.padded - first);
            for (int64_t r = 0; r < filled; r += kGroup) {
              for (size_t p = 0; p < layer.parts.size(); ++p) {
                const Part& part = layer.parts[p];
                const int64_t at = r * layer.words + part.word;
                level.product({space.words + at, layer.words, part.words, part.fine,
                               part.weights + first * part.words, part.starts + first, space.units + p * block + r,
                               part.scales + first, p + 1 == layer.parts.size() ? layer.packed_bias + first : nullptr,
                               p == 0, layer.relu, width, space.sums + r * layer.padded + first, layer.padded});
              }
            }
          }
        }
        for (int64_t r = 0; r < real; ++r) {
          std::copy_n(space.sums + r * layers[count - 1].padded, widths[count], out + (start + r) * widths[count]);
        }
      }
    }
  });
}
