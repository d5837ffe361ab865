// Sixteen float lanes in one AVX-512 register.
#pragma once
#include <immintrin.h>
#include <stdint.h>

namespace TG_VARIANT {

static const int kLanes = 16;
static const int kPixelsAtOnce = 16;  // accumulators of a small matrix product that fit the registers

struct M { __mmask16 v; };
struct F { __m512 v; };

static inline F set1(float x) { return {_mm512_set1_ps(x)}; }
static inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
static inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
static inline F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
static inline F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
static inline F reciprocal(F a) {
  const __m512 r = _mm512_rcp14_ps(a.v);
  return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.f)))};
}
static inline M operator>=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
static inline M operator<=(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
static inline M operator>(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
static inline M operator&(M a, M b) { return {_kand_mask16(a.v, b.v)}; }
static inline F keep(M m, F a) { return {_mm512_maskz_mov_ps(m.v, a.v)}; }                // a where m, else 0
static inline F choose(M m, F a, F b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }  // a where m, else b
static inline unsigned bits(M m) { return m.v; }
static inline bool none(M m) { return m.v == 0; }
static inline float lane_sum(F a) { return _mm512_reduce_add_ps(a.v); }

// p 2^n where m, else 0; the low bits of `shifted` hold the integer n.
static inline F scale_by_power(M m, F p, F shifted) {
  const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23);
  return {_mm512_castsi512_ps(_mm512_maskz_add_epi32(m.v, _mm512_castps_si512(p.v), n))};
}

// The first n values of p, the other lanes 0.
static inline F load_first(const float* p, int64_t n) {
  return n >= 16 ? load(p) : F{_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p)};
}
// Stores the first n lanes.
static inline void store_first(float* p, int64_t n, F value) {
  n >= 16 ? store(p, value) : _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), value.v);
}

// Indices first + i of the masks i in [0, n) that have `bit`; `out` needs room for n + 16. Returns how many.
static inline int select_bit(const uint16_t* masks, int n, int bit, int first, int* out) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i wanted = _mm512_set1_epi32(1 << bit);
  int count = 0;
  for (int i = 0; i < n; i += 16) {
    const __m512i m = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(masks + i)));
    const __mmask16 inside = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
    const __mmask16 k = _mm512_mask_test_epi32_mask(inside, m, wanted);
    const __m512i index = _mm512_add_epi32(lane, _mm512_set1_epi32(first + i));
    _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi32(k, index));
    count += __builtin_popcount(k);
  }
  return count;
}

struct V { __m256 v; };  // one lane = one visit, see simd_x86_visits.h

static inline V operator+(V a, V b) { return {_mm256_add_ps(a.v, b.v)}; }
static inline V operator-(V a, V b) { return {_mm256_sub_ps(a.v, b.v)}; }
static inline V operator*(V a, V b) { return {_mm256_mul_ps(a.v, b.v)}; }
static inline V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

}  // namespace TG_VARIANT

#include "simd_x86_visits.h"
