// Four float lanes in a 128-bit compiler vector: SSE2, NEON, or whatever the target has.
#pragma once
#include <stdint.h>

namespace TG_VARIANT {

static const int kLanes = 4;
static const int kPixelsAtOnce = 8;  // accumulators of a small matrix product that fit the registers

typedef float f4 __attribute__((vector_size(16)));
typedef int i4 __attribute__((vector_size(16)));

#ifdef __clang__
#define TG_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define TG_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, i4{__VA_ARGS__})
#endif

struct M { i4 v; };
struct F { f4 v; };

static inline F set1(float x) { return {f4{x, x, x, x}}; }
static inline F load(const float* p) { F a; __builtin_memcpy(&a.v, p, 16); return a; }
static inline void store(float* p, F a) { __builtin_memcpy(p, &a.v, 16); }
static inline F operator+(F a, F b) { return {a.v + b.v}; }
static inline F operator-(F a, F b) { return {a.v - b.v}; }
static inline F operator*(F a, F b) { return {a.v * b.v}; }
static inline F operator/(F a, F b) { return {a.v / b.v}; }
static inline F fma(F a, F b, F c) { return {a.v * b.v + c.v}; }   // a b + c, fused where the target can
static inline F fnma(F a, F b, F c) { return {c.v - a.v * b.v}; }  // c - a b
static inline f4 choose4(i4 m, f4 a, f4 b) { return (f4)((m & (i4)a) | (~m & (i4)b)); }
static inline F min(F a, F b) { return {choose4(a.v < b.v, a.v, b.v)}; }
static inline F max(F a, F b) { return {choose4(a.v > b.v, a.v, b.v)}; }
static inline F sqrt(F a) {
  for (int k = 0; k < 4; ++k) a.v[k] = __builtin_sqrtf(a.v[k]);
  return a;
}
static inline F reciprocal(F a) { return {1.f / a.v}; }
static inline M operator>=(F a, F b) { return {(i4)(a.v >= b.v)}; }
static inline M operator<=(F a, F b) { return {(i4)(a.v <= b.v)}; }
static inline M operator>(F a, F b) { return {(i4)(a.v > b.v)}; }
static inline M operator&(M a, M b) { return {a.v & b.v}; }
static inline F keep(M m, F a) { return {(f4)(m.v & (i4)a.v)}; }                // a where m, else 0
static inline F choose(M m, F a, F b) { return {choose4(m.v, a.v, b.v)}; }     // a where m, else b
static inline unsigned bits(M m) {
  return (unsigned)((m.v[0] & 1) | (m.v[1] & 2) | (m.v[2] & 4) | (m.v[3] & 8));
}
static inline bool none(M m) {
  long long half[2];
  __builtin_memcpy(half, &m.v, 16);
  return !(half[0] | half[1]);
}
static inline float lane_sum(F a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }

// p 2^n where m, else 0; the low bits of `shifted` hold the integer n.
static inline F scale_by_power(M m, F p, F shifted) { return {(f4)(m.v & ((i4)p.v + ((i4)shifted.v << 23)))}; }

// The first n values of p, the other lanes 0.
static inline F load_first(const float* p, int64_t n) {
  if (n >= 4) return load(p);
  F a = set1(0.f);
  for (int i = 0; i < n; ++i) a.v[i] = p[i];
  return a;
}
// Stores the first n lanes.
static inline void store_first(float* p, int64_t n, F value) {
  if (n >= 4) return store(p, value);
  for (int i = 0; i < n; ++i) p[i] = value.v[i];
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

// Visits (pairs of a splat and a block) side by side: sums over pixels then need no horizontal additions.
static const int kVisits = 4;
typedef F V;  // one lane = one visit

static inline V vset1(float x) { return set1(x); }
static inline V vload(const float* p) { return load(p); }
static inline void vstore(float* p, V a) { store(p, a); }

static inline void transpose(f4 a, f4 b, f4 c, f4 d, V (&out)[4]) {
  const f4 ab = TG_SHUFFLE(a, b, 0, 4, 1, 5), cd = TG_SHUFFLE(c, d, 0, 4, 1, 5);
  const f4 high_ab = TG_SHUFFLE(a, b, 2, 6, 3, 7), high_cd = TG_SHUFFLE(c, d, 2, 6, 3, 7);
  out[0].v = TG_SHUFFLE(ab, cd, 0, 1, 4, 5), out[1].v = TG_SHUFFLE(ab, cd, 2, 3, 6, 7);
  out[2].v = TG_SHUFFLE(high_ab, high_cd, 0, 1, 4, 5);
  out[3].v = TG_SHUFFLE(high_ab, high_cd, 2, 3, 6, 7);
}

// columns[l]: element at + l of four rows.
static inline void load_columns(const float* const* rows, int64_t at, V (&columns)[4]) {
  transpose(load(rows[0] + at).v, load(rows[1] + at).v, load(rows[2] + at).v, load(rows[3] + at).v, columns);
}

// The same for rows that follow each other, 16 values apart.
static inline void load_columns(const float* r, V (&columns)[4]) {
  const float* const rows[4] = {r, r + 16, r + 32, r + 48};
  load_columns(rows, 0, columns);
}

// rows[i][k] += lane i of values[k].
static inline void add_to_rows(const V (&values)[10], float* const* rows) {
  for (int k = 0; k < 8; k += 4) {
    V out[4];
    transpose(values[k].v, values[k + 1].v, values[k + 2].v, values[k + 3].v, out);
    for (int i = 0; i < 4; ++i) store(rows[i] + k, load(rows[i] + k) + out[i]);
  }
  for (int i = 0; i < 4; ++i) rows[i][8] += values[8].v[i], rows[i][9] += values[9].v[i];
}

}  // namespace TG_VARIANT
