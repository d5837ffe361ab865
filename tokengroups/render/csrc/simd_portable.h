// Sixteen float lanes in four 128-bit compiler vectors: SSE2, NEON, or whatever the target has.
#pragma once
#include <stdint.h>

namespace TG_VARIANT {

typedef float f4 __attribute__((vector_size(16)));
typedef int i4 __attribute__((vector_size(16)));

static const int kPixelsAtOnce = 2;  // accumulators of a small matrix product that fit the registers

struct M16 { i4 v[4]; };
struct F16 { f4 v[4]; };

#define TG_EACH(type, expression) \
  type r;                         \
  for (int k = 0; k < 4; ++k) r.v[k] = expression; \
  return r

static inline f4 unaligned(const float* p) { f4 v; __builtin_memcpy(&v, p, 16); return v; }
static inline F16 set1(float x) { TG_EACH(F16, ((f4){x, x, x, x})); }
static inline F16 load(const float* p) { TG_EACH(F16, unaligned(p + 4 * k)); }
static inline void store(float* p, F16 a) { for (int k = 0; k < 4; ++k) __builtin_memcpy(p + 4 * k, &a.v[k], 16); }
static inline F16 operator+(F16 a, F16 b) { TG_EACH(F16, a.v[k] + b.v[k]); }
static inline F16 operator-(F16 a, F16 b) { TG_EACH(F16, a.v[k] - b.v[k]); }
static inline F16 operator*(F16 a, F16 b) { TG_EACH(F16, a.v[k] * b.v[k]); }
static inline F16 fma(F16 a, F16 b, F16 c) { TG_EACH(F16, a.v[k] * b.v[k] + c.v[k]); }
static inline F16 fnma(F16 a, F16 b, F16 c) { TG_EACH(F16, c.v[k] - a.v[k] * b.v[k]); }
static inline f4 choose4(i4 m, f4 a, f4 b) { return (f4)((m & (i4)a) | (~m & (i4)b)); }
static inline F16 min(F16 a, F16 b) { TG_EACH(F16, choose4(a.v[k] < b.v[k], a.v[k], b.v[k])); }
static inline F16 max(F16 a, F16 b) { TG_EACH(F16, choose4(a.v[k] > b.v[k], a.v[k], b.v[k])); }
static inline M16 operator>=(F16 a, F16 b) { TG_EACH(M16, (i4)(a.v[k] >= b.v[k])); }
static inline M16 operator<=(F16 a, F16 b) { TG_EACH(M16, (i4)(a.v[k] <= b.v[k])); }
static inline M16 operator>(F16 a, F16 b) { TG_EACH(M16, (i4)(a.v[k] > b.v[k])); }
static inline F16 keep(M16 m, F16 a) { TG_EACH(F16, (f4)(m.v[k] & (i4)a.v[k])); }
static inline F16 choose(M16 m, F16 a, F16 b) { TG_EACH(F16, choose4(m.v[k], a.v[k], b.v[k])); }
static inline F16 operator/(F16 a, F16 b) { TG_EACH(F16, a.v[k] / b.v[k]); }
static inline F16 sqrt(F16 a) {
  for (int k = 0; k < 16; ++k) a.v[k / 4][k % 4] = __builtin_sqrtf(a.v[k / 4][k % 4]);
  return a;
}
static inline M16 operator&(M16 a, M16 b) { TG_EACH(M16, a.v[k] & b.v[k]); }
static inline bool none(M16 m) {
  const i4 any = (m.v[0] | m.v[1]) | (m.v[2] | m.v[3]);
  long long half[2];
  __builtin_memcpy(half, &any, 16);
  return !(half[0] | half[1]);
}
static inline unsigned bits(M16 m) {
  unsigned r = 0;
  for (int k = 0; k < 16; ++k) r |= (unsigned)(m.v[k / 4][k % 4] & 1) << k;
  return r;
}
static inline F16 reciprocal(F16 a) { TG_EACH(F16, 1.f / a.v[k]); }
// p 2^n where m, else 0; the low bits of `shifted` hold the integer n.
static inline F16 scale_by_power(M16 m, F16 p, F16 shifted) {
  TG_EACH(F16, (f4)(m.v[k] & ((i4)p.v[k] + ((i4)shifted.v[k] << 23))));
}

#undef TG_EACH

static inline float lane_sum(F16 a) {
  const f4 s = (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]);
  return (s[0] + s[1]) + (s[2] + s[3]);
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

static const int kVisits = 4;
struct V { f4 v; };  // one lane = one visit: a pair of a splat and a block

static inline V vset1(float x) { return {f4{x, x, x, x}}; }
static inline V vload(const float* p) { return {unaligned(p)}; }
static inline void vstore(float* p, V a) { __builtin_memcpy(p, &a.v, 16); }
static inline V operator+(V a, V b) { return {a.v + b.v}; }
static inline V operator-(V a, V b) { return {a.v - b.v}; }
static inline V operator*(V a, V b) { return {a.v * b.v}; }
static inline V fma(V a, V b, V c) { return {a.v * b.v + c.v}; }

static inline void transpose(f4 a, f4 b, f4 c, f4 d, f4* out) {
  const f4 ab = __builtin_shuffle(a, b, (i4){0, 4, 1, 5}), cd = __builtin_shuffle(c, d, (i4){0, 4, 1, 5});
  const f4 high_ab = __builtin_shuffle(a, b, (i4){2, 6, 3, 7}), high_cd = __builtin_shuffle(c, d, (i4){2, 6, 3, 7});
  out[0] = __builtin_shuffle(ab, cd, (i4){0, 1, 4, 5}), out[1] = __builtin_shuffle(ab, cd, (i4){2, 3, 6, 7});
  out[2] = __builtin_shuffle(high_ab, high_cd, (i4){0, 1, 4, 5});
  out[3] = __builtin_shuffle(high_ab, high_cd, (i4){2, 3, 6, 7});
}

// columns[l]: element l of four rows.
static inline void load_columns(const float* const* rows, int64_t at, V (&columns)[4]) {
  f4 out[4];
  transpose(unaligned(rows[0] + at), unaligned(rows[1] + at), unaligned(rows[2] + at), unaligned(rows[3] + at), out);
  for (int i = 0; i < 4; ++i) columns[i].v = out[i];
}

// The same for rows that follow each other, 16 values apart.
static inline void load_columns(const float* r, V (&columns)[4]) {
  const float* const rows[4] = {r, r + 16, r + 32, r + 48};
  load_columns(rows, 0, columns);
}

// rows[i][k] += lane i of values[k].
static inline void add_to_rows(const V (&values)[10], float* const* rows) {
  for (int k = 0; k < 8; k += 4) {
    f4 out[4];
    transpose(values[k].v, values[k + 1].v, values[k + 2].v, values[k + 3].v, out);
    for (int i = 0; i < 4; ++i) {
      const f4 sum = unaligned(rows[i] + k) + out[i];
      __builtin_memcpy(rows[i] + k, &sum, 16);
    }
  }
  for (int i = 0; i < 4; ++i) rows[i][8] += values[8].v[i], rows[i][9] += values[9].v[i];
}

}  // namespace TG_VARIANT
