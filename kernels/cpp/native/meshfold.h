// Structs that Python passes to the native kernels, mirrored field by field in kernels/native/structs.py. Letters as in
// model/types.py. Tensors are contiguous, except codes and residuals, whose rows may alternate in one table. Pointers
// are borrowed for the length of a call.
#pragma once

#include <cstdint>

#if defined(_WIN32)
#define MESHFOLD_API extern "C" __declspec(dllexport)
#else
#define MESHFOLD_API extern "C" __attribute__((visibility("default")))
#endif

namespace meshfold {

// Incremented with every change of a struct or an entry point; kernels/native/library.py refuses another number.
constexpr int32_t kAbi = 14;

// Items of a bundle, and its 64-bit words; kernels/filter/bundles.py.
constexpr int64_t kBundle = 512;
constexpr int64_t kWords = 8;
// Items of the fixed sample that estimates pass rates.
constexpr int64_t kSample = 1024;

// Values of items in filterable fields; kernels/filter/steps.py.
struct FilterIndex {
  const uint64_t* signature;        // [G, R, 8]
  const void* const* columns;       // [F] - [N] or [M] int32 or int64
  const int64_t* const* offsets;    // [F] - [N + 1], null for a field of one value
  const int32_t* widths;            // [F] - bytes of a column's integer, 4 or 8
  const int64_t* list_fields;       // [F + 1], null where there are no posting lists
  const int64_t* list_values;       // [L] - those of field f from list_fields[f] on, ascending
  const int64_t* list_offsets;      // [L + 1]
  const int32_t* postings;          // [P] - positions of each value's items, ascending
  int64_t fields;
  int64_t rows;                     // R
  int64_t items;                    // N
  int64_t lists;                    // L
  int64_t posting_count;            // P
};

// Filters of a batch as steps, and exclusions, padded to common sizes.
struct FilterBatch {
  const int64_t* steps;             // [B, L, 4]
  const int64_t* values;            // [B, V]
  const int64_t* value_rows;        // [B, V, S]
  const int64_t* excluded;          // [B, E] - positions, -1 for nothing
  int64_t queries;                  // B
  int64_t length;                   // L
  int64_t value_count;              // V
  int64_t hashes;                   // S
  int64_t excluded_count;           // E
};

// Limits of each query of a batch; kernels/search/tensors.py.
struct Limits {
  const int64_t* budget;            // [B]
  const int64_t* probes;            // [B]
  const int64_t* candidates;        // [B]
  const int64_t* max_results;       // [B]
  int64_t rescored;
};

// An IVF index: clusters lie back to back.
struct Ivf {
  const int8_t* centroids;          // [C, D]
  const float* centroid_scales;      // [C]
  const float* centroid_spreads;    // [C]
  const int64_t* offsets;           // [C + 1]
  const int8_t* codes;              // [N, D], `stride` bytes from an item to the next
  const int8_t* residuals;          // [N, D], as far apart
  const float* scales;               // [N]
  const int32_t* rows;              // [N]
  const uint8_t* coarse;            // [N, (D + 1) / 2]
  int64_t clusters;
  int64_t items;
  int64_t dimension;
  int64_t stride;
};

// Which fields of a protobuf message to count or capture; kernels/wire/table.py. Type 0 is the outermost message.
struct WireTable {
  const int32_t* rules;             // [rules, 4] - wire type, child, counter, capture, by type and field number
  const int32_t* starts;            // [types + 1] - where the rules of each type begin
  const int32_t* counters;          // [counters, 2] - scope and place
  int32_t types;
  int32_t level;                    // the type whose nesting is counted
  int32_t counter_count;
  int32_t capture_count;
};

// The fields of a protobuf message to write; kernels/wire/columns.py. Message 0 is the outermost, every other one the
// child of one field of an earlier message.
struct WireLayout {
  const int64_t* fields;            // [fields, 4] - tag, kind, form, child
  const int64_t* starts;            // [messages + 1] - where the fields of each begin
  int64_t messages;
};

}  // namespace meshfold
