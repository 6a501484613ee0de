#include "isa.h"

#include <atomic>

#include "entry.h"
#include "meshfold.h"

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

std::atomic<int> chosen{static_cast<int>(best())};
thread_local std::string message;

}  // namespace

Isa isa() noexcept { return static_cast<Isa>(chosen.load(std::memory_order_relaxed)); }

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
