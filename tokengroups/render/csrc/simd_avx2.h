// Sixteen float lanes in two AVX2 registers (with FMA).
#pragma once
#include <immintrin.h>
#include <stdint.h>

namespace TG_VARIANT {

static const int kPixelsAtOnce = 4;  // accumulators of a small matrix product that fit the registers

struct M16 { __m256 a, b; };
struct F16 { __m256 a, b; };

static inline F16 set1(float x) { const __m256 v = _mm256_set1_ps(x); return {v, v}; }
static inline F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void store(float* p, F16 x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
static inline F16 operator+(F16 x, F16 y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
static inline F16 operator-(F16 x, F16 y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
static inline F16 operator*(F16 x, F16 y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
static inline F16 fma(F16 x, F16 y, F16 z) {  // x y + z
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline F16 fnma(F16 x, F16 y, F16 z) {  // z - x y
  return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}
static inline F16 min(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
static inline F16 max(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
static inline M16 operator>=(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)};
}
static inline M16 operator<=(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)};
}
static inline M16 operator>(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)};
}
static inline F16 keep(M16 m, F16 x) { return {_mm256_and_ps(m.a, x.a), _mm256_and_ps(m.b, x.b)}; }
static inline M16 operator&(M16 m, M16 n) { return {_mm256_and_ps(m.a, n.a), _mm256_and_ps(m.b, n.b)}; }
static inline F16 choose(M16 m, F16 x, F16 y) {  // x where m, else y
  return {_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}
static inline F16 operator/(F16 x, F16 y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
static inline F16 sqrt(F16 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
static inline unsigned bits(M16 m) { return _mm256_movemask_ps(m.a) | _mm256_movemask_ps(m.b) << 8; }
static inline bool none(M16 m) { return _mm256_movemask_ps(_mm256_or_ps(m.a, m.b)) == 0; }

static inline __m256 reciprocal(__m256 a) {
  const __m256 r = _mm256_rcp_ps(a);
  return _mm256_mul_ps(r, _mm256_fnmadd_ps(a, r, _mm256_set1_ps(2.f)));
}
static inline F16 reciprocal(F16 x) { return {reciprocal(x.a), reciprocal(x.b)}; }

static inline __m256 scale_by_power(__m256 p, __m256 shifted) {
  const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
}
// p 2^n where m, else 0; the low bits of `shifted` hold the integer n.
static inline F16 scale_by_power(M16 m, F16 p, F16 shifted) {
  return keep(m, {scale_by_power(p.a, shifted.a), scale_by_power(p.b, shifted.b)});
}

static inline float lane_sum(F16 x) {
  const __m256 v = _mm256_add_ps(x.a, x.b);
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// The first n values of p, the other lanes 0.
static inline F16 load_first(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  float padded[16] = {};
  for (int i = 0; i < n; ++i) padded[i] = p[i];
  return load(padded);
}

// Stores the first n lanes.
static inline void store_first(float* p, int64_t n, F16 value) {
  if (n >= 16) return store(p, value);
  float padded[16];
  store(padded, value);
  for (int i = 0; i < n; ++i) p[i] = padded[i];
}

// Indices first + i of the masks i in [0, n) that have `bit`; `out` needs room for n + 16. Returns how many.
static inline int select_bit(const unsigned short* masks, int n, int bit, int first, int* out) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    out[count] = first + i;
    count += masks[i] >> bit & 1;
  }
  return count;
}

}  // namespace TG_VARIANT

#include "simd_x86_visits.h"
