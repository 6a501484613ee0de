#include "few.h"

#include <algorithm>

#include "isa.h"

namespace meshfold {
namespace {

#if MESHFOLD_X86

// Each goes to the place that as many smaller ones leave it: no branch, and nothing waits for what came before.
MESHFOLD_AVX512 void sort_avx512(uint64_t* entries, int64_t n) {
  constexpr int64_t kLanes = 8;
  alignas(64) uint64_t held[kMostFew];
  const int64_t whole = (n + kLanes - 1) / kLanes * kLanes;
  std::copy_n(entries, n, held);
  std::fill(held + n, held + whole, ~uint64_t{0});
  const __m512i one = _mm512_set1_epi64(1);
  for (int64_t i = 0; i < whole; i += kLanes) {
    const __m512i own = _mm512_load_si512(held + i);
    __m512i smaller = _mm512_setzero_si512();
    for (int64_t j = 0; j < n; ++j) {
      const __mmask8 less = _mm512_cmplt_epu64_mask(_mm512_set1_epi64(static_cast<int64_t>(held[j])), own);
      smaller = _mm512_mask_add_epi64(smaller, less, smaller, one);
    }
    alignas(64) uint64_t places[kLanes];
    _mm512_store_si512(places, smaller);
    for (int64_t lane = 0; lane < kLanes && i + lane < n; ++lane) entries[places[lane]] = held[i + lane];
  }
}

#endif

}  // namespace

void sort_few(uint64_t* entries, int64_t n) {
#if MESHFOLD_X86
  if (isa() == Isa::avx512) return sort_avx512(entries, n);
#endif
  std::sort(entries, entries + n);
}

}  // namespace meshfold
