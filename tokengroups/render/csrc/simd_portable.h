// Sixteen float lanes in four 128-bit compiler vectors: SSE2, NEON, or whatever the target has.
#pragma once

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
static inline f4 choose(i4 m, f4 a, f4 b) { return (f4)((m & (i4)a) | (~m & (i4)b)); }
static inline F16 min(F16 a, F16 b) { TG_EACH(F16, choose(a.v[k] < b.v[k], a.v[k], b.v[k])); }
static inline F16 max(F16 a, F16 b) { TG_EACH(F16, choose(a.v[k] > b.v[k], a.v[k], b.v[k])); }
static inline M16 operator>=(F16 a, F16 b) { TG_EACH(M16, (i4)(a.v[k] >= b.v[k])); }
static inline M16 operator<=(F16 a, F16 b) { TG_EACH(M16, (i4)(a.v[k] <= b.v[k])); }
static inline F16 keep(M16 m, F16 a) { TG_EACH(F16, (f4)(m.v[k] & (i4)a.v[k])); }
static inline F16 drop(M16 m, F16 a) { TG_EACH(F16, (f4)(~m.v[k] & (i4)a.v[k])); }
static inline bool every_bit(i4 m) {
  long long half[2];
  __builtin_memcpy(half, &m, 16);
  return (half[0] & half[1]) == -1;
}
static inline bool all(M16 m) { return every_bit((m.v[0] & m.v[1]) & (m.v[2] & m.v[3])); }
static inline bool none(M16 m) { return every_bit(~((m.v[0] | m.v[1]) | (m.v[2] | m.v[3]))); }
static inline unsigned bits(M16 m) {
  unsigned r = 0;
  for (int k = 0; k < 16; ++k) r |= (unsigned)(m.v[k / 4][k % 4] & 1) << k;
  return r;
}
static inline F16 reciprocal(F16 a) { TG_EACH(F16, 1.f / a.v[k]); }
// Multiplies p by 2^n, where the low bits of `shifted` hold the integer n.
static inline F16 scale_by_power(F16 p, F16 shifted) { TG_EACH(F16, (f4)((i4)p.v[k] + ((i4)shifted.v[k] << 23))); }

#undef TG_EACH

static inline f4 fold(F16 a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }

// The sums of the four lanes of a, b, c, d.
static inline f4 sums_of_four(f4 a, f4 b, f4 c, f4 d) {
  const f4 ab = __builtin_shuffle(a, b, (i4){0, 4, 1, 5}) + __builtin_shuffle(a, b, (i4){2, 6, 3, 7});
  const f4 cd = __builtin_shuffle(c, d, (i4){0, 4, 1, 5}) + __builtin_shuffle(c, d, (i4){2, 6, 3, 7});
  return __builtin_shuffle(ab, cd, (i4){0, 1, 4, 5}) + __builtin_shuffle(ab, cd, (i4){2, 3, 6, 7});
}
static inline void add_four(float* row, f4 sums) {
  const f4 r = unaligned(row) + sums;
  __builtin_memcpy(row, &r, 16);
}

// row[i] += sum of the lanes of v[i], i < 10; row[10], row[11] stay as they are.
static inline void add_lane_sums(const F16 (&v)[10], float* row) {
  const f4 zero = {0, 0, 0, 0};
  add_four(row, sums_of_four(fold(v[0]), fold(v[1]), fold(v[2]), fold(v[3])));
  add_four(row + 4, sums_of_four(fold(v[4]), fold(v[5]), fold(v[6]), fold(v[7])));
  add_four(row + 8, sums_of_four(fold(v[8]), fold(v[9]), zero, zero));
}

static inline float lane_sum(F16 a) {
  const f4 s = fold(a);
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

}  // namespace TG_VARIANT
