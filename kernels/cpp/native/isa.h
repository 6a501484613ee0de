// Which instructions run: chosen once from what the processor has, or forced lower.
//
// A leaf function that gains from them has a version for each level, with MESHFOLD_AVX2 or MESHFOLD_AVX512 before it,
// and isa() selects one. Such functions use intrinsics alone: a std template that they instantiated could be shared by
// the linker with code that runs on any processor.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MESHFOLD_X86 1
#include <immintrin.h>
#define MESHFOLD_AVX2 __attribute__((target("avx2,fma,bmi,bmi2,popcnt")))
#define MESHFOLD_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,bmi,bmi2,popcnt")))
#else
#define MESHFOLD_X86 0
#endif

// For a loop that compilers vectorise by themselves: written once, and inlined into a function for each level.
#define MESHFOLD_INLINE inline __attribute__((always_inline))

// Defines result NAME parameters: it calls BODY, which is MESHFOLD_INLINE, compiled for each level.
#if MESHFOLD_X86
#define MESHFOLD_FOR_EACH_LEVEL(result, name, body, parameters, arguments)                   \
  MESHFOLD_AVX512 static result name##_avx512 parameters { return body arguments; }          \
  MESHFOLD_AVX2 static result name##_avx2 parameters { return body arguments; }              \
  static result name parameters {                                                            \
    if (isa() == Isa::avx512) return name##_avx512 arguments;                                \
    if (isa() == Isa::avx2) return name##_avx2 arguments;                                    \
    return body arguments;                                                                   \
  }
#else
#define MESHFOLD_FOR_EACH_LEVEL(result, name, body, parameters, arguments) \
  static result name parameters { return body arguments; }
#endif

namespace meshfold {

enum class Isa : int { plain = 0, avx2 = 1, avx512 = 2 };

// The level in use.
Isa isa() noexcept;

// Prefetch distance of a scan on this processor in bytes; 0 where its own prefetcher is as fast.
int64_t default_prefetch_bytes() noexcept;

}  // namespace meshfold
