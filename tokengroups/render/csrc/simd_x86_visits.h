// Eight visits (pairs of a splat and a block) side by side: sums over pixels then need no horizontal additions.
// For AVX2 and AVX-512.
#pragma once
#include <stdint.h>

namespace TG_VARIANT {

static const int kVisits = 8;
static inline V vset1(float x) { return {_mm256_set1_ps(x)}; }
static inline V vload(const float* p) { return {_mm256_loadu_ps(p)}; }
static inline void vstore(float* p, V a) { _mm256_storeu_ps(p, a.v); }

static inline __m256 two_rows(const float* low, const float* high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

// Four columns of eight rows of which a, b, c, d hold rows 0 | 4, 1 | 5, 2 | 6, 3 | 7.
static inline void transpose_halves(__m256 a, __m256 b, __m256 c, __m256 d, __m256* out) {
  const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
  const __m256 high_ab = _mm256_unpackhi_ps(a, b), high_cd = _mm256_unpackhi_ps(c, d);
  out[0] = _mm256_shuffle_ps(ab, cd, 0x44), out[1] = _mm256_shuffle_ps(ab, cd, 0xee);
  out[2] = _mm256_shuffle_ps(high_ab, high_cd, 0x44), out[3] = _mm256_shuffle_ps(high_ab, high_cd, 0xee);
}

// columns[l]: element at + l of eight rows.
static inline void load_columns(const float* const* rows, int64_t at, V (&columns)[4]) {
  __m256 out[4];
  transpose_halves(two_rows(rows[0] + at, rows[4] + at), two_rows(rows[1] + at, rows[5] + at),
                   two_rows(rows[2] + at, rows[6] + at), two_rows(rows[3] + at, rows[7] + at), out);
  for (int i = 0; i < 4; ++i) columns[i].v = out[i];
}

// The same for rows that follow each other, 16 values apart.
static inline void load_columns(const float* r, V (&columns)[4]) {
  const float* const rows[8] = {r, r + 16, r + 32, r + 48, r + 64, r + 80, r + 96, r + 112};
  load_columns(rows, 0, columns);
}

// rows[i][k] += lane i of values[k].
static inline void add_to_rows(const V (&values)[10], float* const* rows) {
  __m256 first[4], second[4];  // rows 0 | 4, 1 | 5, 2 | 6, 3 | 7 of the values 0..3 and 4..7
  transpose_halves(values[0].v, values[1].v, values[2].v, values[3].v, first);
  transpose_halves(values[4].v, values[5].v, values[6].v, values[7].v, second);
  for (int i = 0; i < 4; ++i) {
    const __m256 low = _mm256_permute2f128_ps(first[i], second[i], 0x20);
    const __m256 high = _mm256_permute2f128_ps(first[i], second[i], 0x31);
    _mm256_storeu_ps(rows[i], _mm256_add_ps(_mm256_loadu_ps(rows[i]), low));
    _mm256_storeu_ps(rows[i + 4], _mm256_add_ps(_mm256_loadu_ps(rows[i + 4]), high));
  }
  float tail[2][8];
  _mm256_storeu_ps(tail[0], values[8].v), _mm256_storeu_ps(tail[1], values[9].v);
  for (int i = 0; i < 8; ++i) rows[i][8] += tail[0][i], rows[i][9] += tail[1][i];
}

}  // namespace TG_VARIANT
