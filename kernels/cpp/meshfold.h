// What crosses between Python and the native kernels: plain structs, mirrored field by field in kernels/native.py.
// Letters as in model/types.py. Tensors are contiguous, but for an item's codes and residuals, which may lie side by
// side; pointers are borrowed for the length of a call.
#pragma once

#include <cstdint>

#if defined(_WIN32)
#define MESHFOLD_API extern "C" __declspec(dllexport)
#else
#define MESHFOLD_API extern "C" __attribute__((visibility("default")))
#endif

namespace meshfold {

// Raised by one whenever a struct or a function below changes; kernels/native.py refuses another number.
constexpr int32_t kAbi = 14;

// Items to a bundle, and 64-bit words that hold a bit each; kernels/bundles.py.
constexpr int64_t kBundle = 512;
constexpr int64_t kWords = 8;
// Items of the fixed sample from which a pass rate is estimated.
constexpr int64_t kSample = 1024;

// What items hold in fields that are filtered; kernels/filter_program.py.
struct FilterIndex {
  const uint64_t* signature;        // [G, R, 8]
  const void* const* columns;       // [F] - [N] or [M] int32 or int64
  const int64_t* const* offsets;    // [F] - [N + 1], null for a field of one value
  const int32_t* widths;            // [F] - bytes of a column's integer, 4 or 8
  const int64_t* list_fields;       // [F + 1], null where there are no posting lists
  const int64_t* list_values;       // [L] - of field f from list_fields[f] on, ascending
  const int64_t* list_offsets;      // [L + 1]
  const int32_t* postings;          // [P] - positions of each value's items, ascending
  int64_t fields;
  int64_t rows;                     // R
  int64_t items;                    // N
  int64_t lists;                    // L
  int64_t posting_count;            // P
};

// Filter programs and exclusions of a batch, padded to common sizes.
struct Programs {
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

// How much each query of a batch searches; kernels/search.py.
struct Limits {
  const int64_t* budget;            // [B]
  const int64_t* probes;            // [B]
  const int64_t* depth;             // [B]
  const int64_t* wanted;            // [B]
  int64_t rescored;
};

// An IVF index: clusters lie back to back.
struct Ivf {
  const int8_t* centroids;          // [C, D]
  const float* centroid_units;      // [C]
  const float* centroid_spreads;    // [C]
  const int64_t* offsets;           // [C + 1]
  const int8_t* codes;              // [N, D], `stride` bytes from an item to the next
  const int8_t* residuals;          // [N, D], as far apart
  const float* units;               // [N]
  const int32_t* rows;              // [N]
  const uint8_t* coarse;            // [N, (D + 1) / 2]
  int64_t clusters;
  int64_t items;
  int64_t dimension;
  int64_t stride;
};

// What is looked at in a protobuf message; kernels/wire_table.py. Types of message are numbered, the outermost is 0.
struct WireTable {
  const int32_t* rules;             // [rules, 4] - wire type, child, counter, capture of a type's fields by number
  const int32_t* starts;            // [types + 1] - where the rules of each type begin
  const int32_t* counters;          // [counters, 2] - scope and place
  int32_t types;
  int32_t level;                    // the type of which levels are counted
  int32_t counter_count;
  int32_t capture_count;
};

// The fields of a protobuf message that is written; kernels/wire_columns.py. Message 0 is outermost, every other one the
// child of one field of a message before it.
struct WireLayout {
  const int64_t* fields;            // [fields, 4] - tag, kind, form, child
  const int64_t* starts;            // [messages + 1] - where the fields of each begin
  int64_t messages;
};

}  // namespace meshfold
