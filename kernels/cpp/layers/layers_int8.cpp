// A chain of linear layers in integers: each block of rows passes through all layers; formula in
// kernels/layers/layers_int8.py.
//
// Inputs and weights are packed in 32-bit words of neighbouring columns: four bytes for VNNI, which adds four products
// at once, or two 16-bit values for AVX2. Weights are packed in panels of 32 outputs, [words][32]; the last panel has
// 16 where that is enough. VNNI reads inputs as unsigned bytes, so signed codes are raised by 128 ("biased" parts), and
// each sum starts at -128 times the sum of its weights.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "layers/codes.h"
#include "layers/product_int8.h"
#include "native/aligned.h"
#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"

namespace meshfold {
namespace {

// Groups of kGroup rows in a block. A block's values stay in a core's caches, beside the weights.
constexpr int64_t kGroups = 2;
// Most columns of an input of floats that keeps 16 bits, such as similarities, which differ by less than a code.
constexpr int64_t kFineColumns = 16;
// Multiplications below which starting threads takes longer than the work.
constexpr int64_t kParallel = 1 << 22;

// Converts a row of floats to codes; returns the row's peak. Code: the type of a code. bias: added to each code.
template <class Code>
MESHFOLD_INLINE float signed_codes(const float* x, int64_t count, int32_t bias, Code* codes) {
  const float peak = peak_of(x, count), factor = factor_of(peak, kFinePeak);
  if (factor == 0) {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Code>(bias);
  } else {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Code>(((nearest(x[j] * factor) + 128) >> 8) + bias);
  }
  return peak;
}

// Converts a row of at most kFineColumns floats to 16-bit values, one in each word; returns the row's peak.
MESHFOLD_INLINE float fine_words(const float* x, int64_t count, int32_t* words) {
  const float peak = peak_of(x, count), factor = factor_of(peak, kFinePeak);
  for (int64_t j = 0; j < count; ++j) words[j] = factor == 0 ? 0 : nearest(x[j] * factor);
  return peak;
}

// Converts a row of values of at least 0 to codes from 0 to 255; returns the row's peak.
template <class Code>
MESHFOLD_INLINE float positive_codes(const float* x, int64_t count, Code* codes) {
  const float peak = peak_of(x, count), factor = factor_of(peak, kPositivePeak);
  if (factor == 0) {
    for (int64_t j = 0; j < count; ++j) codes[j] = 0;
  } else {
    for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Code>(nearest(x[j] * factor));
  }
  return peak;
}

template <class Code>
MESHFOLD_INLINE void stored_codes(const int8_t* from, int64_t count, int32_t bias, Code* codes) {
  for (int64_t j = 0; j < count; ++j) codes[j] = static_cast<Code>(from[j] + bias);
}

// Kinds of input values: floats as codes, floats as 16-bit values, outputs of a ReLU, and stored codes.
enum class From : int { floats, fine, relu, codes };

// Converts a row of `count` values to words; returns the row's peak, or 0 for stored codes, whose peak is known.
template <class Code>
MESHFOLD_INLINE float to_words(From from, const void* x, int64_t count, int32_t* words) {
  constexpr int32_t kBias = sizeof(Code) == 1 ? 128 : 0;
  auto* codes = reinterpret_cast<Code*>(words);
  if (from == From::relu) return positive_codes(static_cast<const float*>(x), count, codes);
  if (from == From::fine) return fine_words(static_cast<const float*>(x), count, words);
  if (from == From::floats) return signed_codes(static_cast<const float*>(x), count, kBias, codes);
  stored_codes(static_cast<const int8_t*>(x), count, kBias, codes);
  return 0;
}

#if MESHFOLD_X86

MESHFOLD_AVX2 float words_avx2(From from, const void* x, int64_t count, int32_t* words) {
  return to_words<int16_t>(from, x, count, words);
}

MESHFOLD_AVX512 float words_avx512(From from, const void* x, int64_t count, int32_t* words) {
  return to_words<uint8_t>(from, x, count, words);
}

#endif

float make_words(From from, const void* x, int64_t count, int32_t* words) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return words_avx512(from, x, count, words);
  if (isa() == Isa::avx2) return words_avx2(from, x, count, words);
#endif
  return to_words<int16_t>(from, x, count, words);
}

// Number of codes in a word.
int64_t codes_per_word() { return isa() == Isa::avx512 ? 4 : 2; }

// Weights of a layer. The row of each output has its codes, then the bytes of one float peak for each part.
struct Weights {
  const int8_t* rows;
  int64_t inner, parts;
  const int8_t* row(int64_t m) const { return rows + m * (inner + parts * static_cast<int64_t>(sizeof(float))); }
  float scale(int64_t m, int64_t part) const {
    float peak;
    std::memcpy(&peak, row(m) + inner + part * sizeof peak, sizeof peak);
    return scale_of(peak, kWeightPeak);
  }
};

// One input of a layer and its packed weights. at, word: its first column and word. starts: initial values of sums.
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

// Packs a row of codes into words that are `width` words apart; pads the last word with zeros.
template <class Code>
void pack_row(const int8_t* codes, int64_t columns, int64_t width, int32_t* to) {
  constexpr int64_t kValues = sizeof(int32_t) / sizeof(Code);
  Code values[kValues];
  int64_t start = 0;
  for (; start + kValues <= columns; start += kValues, to += width) {
    for (int64_t j = 0; j < kValues; ++j) values[j] = codes[start + j];
    std::memcpy(to, values, sizeof values);
  }
  if (start == columns) return;
  for (int64_t j = 0; j < kValues; ++j) values[j] = start + j < columns ? codes[start + j] : 0;
  std::memcpy(to, values, sizeof values);
}

// Packs the panel of outputs from `first` on; outputs beyond the last have zero weights. values: codes per word.
void pack(const Layer& layer, int64_t first, int64_t values) {
  const int64_t width = std::min(kPanel, layer.padded - first), real = std::min(width, layer.outputs - first);
  for (int64_t c = 0; c < width; ++c) {
    // Adding 0 turns -0 into 0.
    layer.packed_bias[first + c] = layer.bias != nullptr && c < real ? layer.bias[first + c] + 0.0f : 0;
  }
  for (size_t p = 0; p < layer.parts.size(); ++p) {
    const Part& part = layer.parts[p];
    int32_t* to = part.weights + first * part.words;
    for (int64_t c = 0; c < width; ++c) {
      part.scales[first + c] = c < real ? layer.weights.scale(first + c, static_cast<int64_t>(p)) : 0;
      int32_t sum = 0;
      if (c >= real) {
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

// The inputs of the first layer: `count` tensors of M rows, whose columns are concatenated. peaks: null for floats.
struct Inputs {
  const void* const* values;
  const float* const* peaks;
  const int64_t* columns;
  const int64_t* row_strides;
  const int64_t* column_strides;
  int64_t count;
};

// Scratch memory of a thread: words of a block's rows, outputs of a layer, one row, and a scale for each part and row.
struct Space {
  int32_t* words;
  float* sums;
  float* row;
  float* scales;
};

// Converts a row of an input to words at `at`; returns its scale.
float input_words(const Inputs& given, int64_t input, int64_t row, const Part& part, const Space& space, int64_t at) {
  int32_t* words = space.words + at + part.word;
  const int64_t columns = given.columns[input], stride = given.column_strides[input];
  if (given.peaks[input] != nullptr) {
    make_words(From::codes, static_cast<const int8_t*>(given.values[input]) + row * given.row_strides[input], columns,
                words);
    return scale_of(given.peaks[input][row], kWeightPeak);
  }
  const float* from = static_cast<const float*>(given.values[input]) + row * given.row_strides[input];
  if (stride != 1) {
    for (int64_t c = 0; c < columns; ++c) space.row[c] = from[c * stride];
    from = space.row;
  }
  const float peak = make_words(part.fine ? From::fine : From::floats, from, columns, words);
  return scale_of(peak, part.fine ? kFinePeak : kWeightPeak);
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

// Runs P inputs of M rows through L layers -> out: [M, widths[L]].
//
// inputs: [P] - pointers to [M, columns[p]] values with strides row_strides[p] and column_strides[p]: floats, or int8
// codes with column stride 1 and peaks[p]: [M]. widths: [L + 1] - columns of all inputs together, then outputs of each
// layer. weights: [L] - widths[l + 1] rows of widths[l] codes, then one peak for each part: P parts in the first layer,
// 1 in others. biases: [L] - [widths[l + 1]] or null. relus: [L] - whether negative outputs become 0.
MESHFOLD_API int32_t meshfold_layers_int8(const void* const* inputs, const float* const* peaks, const int64_t* columns,
                                          const int64_t* row_strides, const int64_t* column_strides, int64_t parts,
                                          int64_t rows, const int8_t* const* weights, const float* const* biases,
                                          const int64_t* widths, const bool* relus, int64_t count, float* out,
                                          int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    const Inputs given{inputs, peaks, columns, row_strides, column_strides, parts};
    check(given, widths, count);
    const int64_t values = codes_per_word();
    std::vector<Layer> layers(count);
    int64_t size = 0, multiplications = 0, panels = 0, most_words = 0, widest = 0;
    for (int64_t l = 0; l < count; ++l) {
      const int64_t padded = (widths[l + 1] + 15) / 16 * 16, split = l == 0 ? parts : 1;
      Layer& layer = layers[l];
      layer = {{weights[l], widths[l], split}, biases[l], widths[l + 1], padded, 0, relus[l], {}, nullptr};
      int64_t at = 0;
      for (int64_t p = 0; p < split; ++p) {
        const int64_t own = l == 0 ? columns[p] : widths[l], packed = (own + values - 1) / values;
        const bool fine = l == 0 && peaks[p] == nullptr && own <= kFineColumns;
        const int64_t words = fine ? own : packed;
        const bool biased = l == 0 || !relus[l - 1];
        layer.parts.push_back({at, own, layer.words, words, fine, biased, nullptr, nullptr, nullptr});
        at += own;
        layer.words += words;
        size += padded * (words + 2);
      }
      size += padded;
      multiplications += widths[l] * padded;
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
    const int64_t block = kGroups * kGroup, scales = block * std::max<int64_t>(parts, 1);
    const int64_t own = (block * most_words + block * widest + widest + scales + 15) / 16 * 16;
    const Room<int32_t> spaces = room<int32_t>(own * team);
    std::memset(spaces.get(), 0, sizeof(int32_t) * own * team);
#pragma omp parallel if (rows > block && rows * multiplications > kParallel) num_threads(team)
    {
      int32_t* mine = spaces.get() + own * omp_get_thread_num();
      Space space;
      space.words = mine;
      space.sums = reinterpret_cast<float*>(mine + block * most_words);
      space.row = space.sums + block * widest;
      space.scales = space.row + widest;
#pragma omp for schedule(dynamic)
      for (int64_t panel = 0; panel < panels; ++panel) {
        int64_t left = panel;
        const Layer* layer = layers.data();
        for (; left >= layer->panels(); ++layer) left -= layer->panels();
        pack(*layer, left * kPanel, values);
      }
#pragma omp for schedule(dynamic)
      for (int64_t start = 0; start < rows; start += block) {
        const int64_t real = std::min(block, rows - start), filled = (real + kGroup - 1) / kGroup * kGroup;
        for (int64_t l = 0; l < count; ++l) {
          const Layer& layer = layers[l];
          // The last row is repeated to fill its group.
          for (int64_t p = 0; p < static_cast<int64_t>(layer.parts.size()); ++p) {
            for (int64_t r = 0; r < filled; ++r) {
              float* scale = space.scales + p * block + r;
              const Part& part = layer.parts[p];
              if (l == 0) {
                *scale = input_words(given, p, start + std::min(r, real - 1), part, space, r * layer.words);
              } else {
                const float* from = space.sums + r * layers[l - 1].padded;
                const float peak = make_words(part.biased ? From::floats : From::relu, from, part.columns,
                                               space.words + r * layer.words);
                *scale = scale_of(peak, part.biased ? kWeightPeak : kPositivePeak);
              }
            }
          }
          for (int64_t first = 0; first < layer.padded; first += kPanel) {
            const int64_t width = std::min(kPanel, layer.padded - first);
            for (int64_t r = 0; r < filled; r += kGroup) {
              for (size_t p = 0; p < layer.parts.size(); ++p) {
                const Part& part = layer.parts[p];
                const int64_t at = r * layer.words + part.word;
                product({space.words + at, layer.words, part.words, part.fine,
                               part.weights + first * part.words, part.starts + first, space.scales + p * block + r,
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
