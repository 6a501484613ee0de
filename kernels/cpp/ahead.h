// What is read soon is asked for.
#pragma once

namespace meshfold {

// Brings the line on its way to the second cache. Not to the first, which waits for fewer lines at once: on a Zen 4, reads
// from all over the memory that are asked for in this way take 0.6 of the time.
inline void ask_for(const void* at) {
  // An effect, if an empty one: GCC takes a function that does nothing but prefetch for one without, and leaves out calls.
  asm volatile("" : : "r"(at));
  __builtin_prefetch(at, 0, 2);
}

// The same to the first cache: of lines that are read in a row and soon.
inline void ask_soon(const void* at) {
  asm volatile("" : : "r"(at));
  __builtin_prefetch(at, 0, 3);
}

}  // namespace meshfold
