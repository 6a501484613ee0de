#include "isa.h"

#include <atomic>
#include <cstring>

#include "entry.h"
#include "meshfold.h"

#if MESHFOLD_X86
#include <cpuid.h>
#endif

namespace meshfold {
namespace {

Isa best() noexcept {
#if MESHFOLD_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("popcnt");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::plain;
}

#if MESHFOLD_X86
// AMD's family, 25 of a Zen 4, 26 of a Zen 5; 0 of others' processors.
unsigned amd_family() noexcept {
  unsigned most = 0, vendor[3] = {}, signature = 0, rest[3] = {};
  if (!__get_cpuid(0, &most, &vendor[0], &vendor[2], &vendor[1]) || most < 1) return 0;
  if (std::memcmp(vendor, "AuthenticAMD", sizeof vendor) != 0) return 0;
  __get_cpuid(1, &signature, &rest[0], &rest[1], &rest[2]);
  return (signature >> 8 & 0xF) + (signature >> 20 & 0xFF);
}
#endif

std::atomic<int> chosen{static_cast<int>(best())};
thread_local std::string message;

}  // namespace

Isa isa() noexcept { return static_cast<Isa>(chosen.load(std::memory_order_relaxed)); }

// Measured: a Zen 5 then scans 1.6 times as fast, a Zen 4 up to 16 % slower. Others are as `meshfold tune` finds them.
int64_t usual_ahead() noexcept {
#if MESHFOLD_X86
  if (amd_family() >= 26) return 16 << 10;
#endif
  return 0;
}

void say(const char* text) noexcept {
  try {
    message = text;
  } catch (...) {
    message.clear();
  }
}

}  // namespace meshfold

MESHFOLD_API int32_t meshfold_abi() { return meshfold::kAbi; }

// Why the last call of this thread failed.
MESHFOLD_API const char* meshfold_message() { return meshfold::message.c_str(); }

// The level in use, after it was lowered to `wanted`; more than the processor has is not given. -1 only asks.
MESHFOLD_API int32_t meshfold_isa(int32_t wanted) {
  const int most = static_cast<int>(meshfold::best());
  if (wanted >= 0) meshfold::chosen.store(wanted < most ? wanted : most);
  return meshfold::chosen.load();
}

MESHFOLD_API int32_t meshfold_usual_ahead() { return static_cast<int32_t>(meshfold::usual_ahead()); }
