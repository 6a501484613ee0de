// Which instructions run: chosen once from what the processor has, or forced lower.
//
// A leaf function that gains from them is written once for each level, with MESHFOLD_AVX2 or MESHFOLD_AVX512 before
// it, and picked by isa(). Such functions use intrinsics alone: a std template that they instantiated could be
// shared by the linker with code that runs on any processor.
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

namespace meshfold {

enum class Isa : int { plain = 0, avx2 = 1, avx512 = 2 };

// The level in use.
Isa isa() noexcept;

// Bytes of a scan that this processor had better be asked for ahead; 0 where it reads on by itself as fast.
int64_t usual_ahead() noexcept;

}  // namespace meshfold
