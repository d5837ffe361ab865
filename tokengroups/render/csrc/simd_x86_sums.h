// Sums over the sixteen lanes of several vectors at once (AVX2 and AVX-512; needs `fold`).
#pragma once

namespace TG_VARIANT {

// row[i] += sum of the lanes of v[i], i < 10; row[10], row[11] stay as they are.
static inline void add_lane_sums(const F16 (&v)[10], float* row) {
  const __m256 a = _mm256_hadd_ps(fold(v[0]), fold(v[1])), b = _mm256_hadd_ps(fold(v[2]), fold(v[3]));
  const __m256 c = _mm256_hadd_ps(fold(v[4]), fold(v[5])), d = _mm256_hadd_ps(fold(v[6]), fold(v[7]));
  const __m256 ab = _mm256_hadd_ps(a, b), cd = _mm256_hadd_ps(c, d);
  const __m256 sums = _mm256_add_ps(_mm256_permute2f128_ps(ab, cd, 0x20), _mm256_permute2f128_ps(ab, cd, 0x31));
  _mm256_storeu_ps(row, _mm256_add_ps(_mm256_loadu_ps(row), sums));
  const __m256 e = _mm256_hadd_ps(fold(v[8]), fold(v[9]));
  const __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
  const __m128 g = _mm_add_ps(_mm_movehdup_ps(f), f);  // lanes 0 and 2
  const __m128 pair = _mm_shuffle_ps(g, _mm_setzero_ps(), _MM_SHUFFLE(0, 0, 2, 0));
  _mm_storeu_ps(row + 8, _mm_add_ps(_mm_loadu_ps(row + 8), pair));
}

static inline float lane_sum(F16 a) {
  const __m256 v = fold(a);
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

}  // namespace TG_VARIANT
