// Sums across registers.
#pragma once

#include "native/isa.h"

#if MESHFOLD_X86

namespace meshfold {

// Each 128 bits of the result are the sums of four registers over the same 128 bits.
MESHFOLD_AVX512 inline __m512i folded(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// The same for lanes from -16,383 to 16,383, whose pairs fit 16 bits.
MESHFOLD_AVX512 inline __m512i folded_narrow(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ones = _mm512_set1_epi16(1);
  const __m512i ab = _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones);
  const __m512i cd = _mm512_madd_epi16(_mm512_packs_epi32(c, d), ones);
  return _mm512_madd_epi16(_mm512_packs_epi32(ab, cd), ones);
}

// The sums of one such result over its 128-bit parts: the four lanes are the sums of four registers.
MESHFOLD_AVX512 inline __m128i across(__m512i all) {
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// The same of four results: the lanes are the sums of 16 registers.
MESHFOLD_AVX512 inline __m512i across(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xEE));
  const __m512i cd = _mm512_add_epi32(_mm512_shuffle_i32x4(c, d, 0x44), _mm512_shuffle_i32x4(c, d, 0xEE));
  return _mm512_add_epi32(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xDD));
}

}  // namespace meshfold

#endif
