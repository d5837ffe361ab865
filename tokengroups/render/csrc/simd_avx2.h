// Eight float lanes in one AVX2 register (with FMA).
#pragma once
#include <immintrin.h>
#include <stdint.h>

namespace TG_VARIANT {

static const int kLanes = 8;
static const int kPixelsAtOnce = 8;  // accumulators of a small matrix product that fit the registers

struct M { __m256 v; };
struct F { __m256 v; };

static inline F set1(float x) { return {_mm256_set1_ps(x)}; }
static inline F load(const float* p) { return {_mm256_loadu_ps(p)}; }
static inline void store(float* p, F a) { _mm256_storeu_ps(p, a.v); }
static inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
static inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
static inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
static inline F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
static inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }    // a b + c
static inline F fnma(F a, F b, F c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
static inline F min(F a, F b) { return {_mm256_min_ps(a.v, b.v)}; }
static inline F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
static inline F sqrt(F a) { return {_mm256_sqrt_ps(a.v)}; }
static inline F reciprocal(F a) {
  const __m256 r = _mm256_rcp_ps(a.v);
  return {_mm256_mul_ps(r, _mm256_fnmadd_ps(a.v, r, _mm256_set1_ps(2.f)))};
}
static inline M operator>=(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
static inline M operator<=(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
static inline M operator>(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
static inline M operator&(M a, M b) { return {_mm256_and_ps(a.v, b.v)}; }
static inline F keep(M m, F a) { return {_mm256_and_ps(m.v, a.v)}; }                  // a where m, else 0
static inline F choose(M m, F a, F b) { return {_mm256_blendv_ps(b.v, a.v, m.v)}; }  // a where m, else b
static inline unsigned bits(M m) { return (unsigned)_mm256_movemask_ps(m.v); }
static inline bool none(M m) { return bits(m) == 0; }
static inline float lane_sum(F a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// p 2^n where m, else 0; the low bits of `shifted` hold the integer n.
static inline F scale_by_power(M m, F p, F shifted) {
  const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23);
  return keep(m, {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.v), n))});
}

static inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// The first n values of p, the other lanes 0.
static inline F load_first(const float* p, int64_t n) {
  return n >= 8 ? load(p) : F{_mm256_maskload_ps(p, first_lanes(n))};
}
// Stores the first n lanes.
static inline void store_first(float* p, int64_t n, F value) {
  n >= 8 ? store(p, value) : _mm256_maskstore_ps(p, first_lanes(n), value.v);
}

// Indices first + i of the masks i in [0, n) that have `bit`; `out` needs room for n + 16. Returns how many.
static inline int select_bit(const uint16_t* masks, int n, int bit, int first, int* out) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    out[count] = first + i;
    count += masks[i] >> bit & 1;
  }
  return count;
}

typedef F V;  // one lane = one visit, see simd_x86_visits.h

}  // namespace TG_VARIANT

#include "simd_x86_visits.h"
