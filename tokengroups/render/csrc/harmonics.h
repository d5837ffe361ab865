// Colours from real spherical harmonics up to degree 3, and their gradients. One lane = one Gaussian. Basis as in
// render/inputs.py. The slopes are those of the polynomials below, which is all that counts: normalising the direction
// removes the radial part.
#pragma once
#include "projection.h"

namespace TG_VARIANT {

static const int kMaxHarmonics = 16;
static const float kC0 = 0.28209479177387814f, kC1 = 0.4886025119029199f;
static const float kC2[3] = {1.0925484305920792f, 0.31539156525252005f, 0.5462742152960396f};
static const float kC3[5] = {0.5900435899266435f, 2.890611442640554f, 0.4570457994644658f, 0.3731763325901154f,
                             1.445305721320277f};

struct Direction {
  F x, y, z, inverse_length;
};

// From the camera's centre to the Gaussians' means.
static inline Direction direction_to(const Camera& c, const F* mean) {
  const F x = mean[0] - set1(c.centre[0]), y = mean[1] - set1(c.centre[1]), z = mean[2] - set1(c.centre[2]);
  const F inverse = set1(1.f) / max(sqrt(fma(x, x, fma(y, y, z * z))), set1(1e-12f));
  return {x * inverse, y * inverse, z * inverse, inverse};
}

static inline void harmonics(int count, const Direction& d, F* b) {
  const F x = d.x, y = d.y, z = d.z;
  b[0] = set1(kC0);
  if (count < 4) return;
  b[1] = set1(-kC1) * y, b[2] = set1(kC1) * z, b[3] = set1(-kC1) * x;
  if (count < 9) return;
  const F xx = x * x, yy = y * y, zz = z * z, difference = xx - yy, sum = xx + yy;
  b[4] = set1(kC2[0]) * x * y, b[5] = set1(-kC2[0]) * y * z, b[6] = set1(kC2[1]) * (zz + zz - sum);
  b[7] = set1(-kC2[0]) * x * z, b[8] = set1(kC2[2]) * difference;
  if (count < 16) return;
  const F four = set1(4.f) * zz - sum;
  b[9] = set1(-kC3[0]) * y * (set1(3.f) * xx - yy), b[10] = set1(kC3[1]) * x * y * z, b[11] = set1(-kC3[2]) * y * four;
  b[12] = set1(kC3[3]) * z * (zz + zz - set1(3.f) * sum), b[13] = set1(-kC3[2]) * x * four;
  b[14] = set1(kC3[4]) * z * difference, b[15] = set1(-kC3[0]) * x * (xx - set1(3.f) * yy);
}

// sum over the basis of v * d(basis) / d(x, y, z)
static inline void harmonics_slopes(int count, const Direction& d, const F* v, F* out) {
  const F x = d.x, y = d.y, z = d.z, two = set1(2.f), three = set1(3.f);
  out[0] = out[1] = out[2] = set1(0.f);
  if (count < 4) return;
  out[0] = set1(-kC1) * v[3], out[1] = set1(-kC1) * v[1], out[2] = set1(kC1) * v[2];
  if (count < 9) return;
  const F v4 = set1(kC2[0]) * v[4], v5 = set1(-kC2[0]) * v[5], v6 = set1(2.f * kC2[1]) * v[6];
  const F v7 = set1(-kC2[0]) * v[7], v8 = set1(2.f * kC2[2]) * v[8];
  out[0] = out[0] + fma(v4, y, v7 * z) + x * (v8 - v6);
  out[1] = out[1] + fma(v4, x, v5 * z) - y * (v8 + v6);
  out[2] = out[2] + fma(v5, y, v7 * x) + two * v6 * z;
  if (count < 16) return;
  const F xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
  const F v9 = set1(-3.f * kC3[0]) * v[9], v10 = set1(kC3[1]) * v[10], v11 = set1(-kC3[2]) * v[11];
  const F v12 = set1(3.f * kC3[3]) * v[12], v13 = set1(-kC3[2]) * v[13], v14 = set1(kC3[4]) * v[14];
  const F v15 = set1(-3.f * kC3[0]) * v[15], four = set1(4.f) * zz;
  out[0] = out[0] + two * (v9 * xy - v11 * xy - v12 * xz + v14 * xz) + v10 * yz + v13 * (four - three * xx - yy) +
           v15 * (xx - yy);
  out[1] = out[1] + v9 * (xx - yy) + v10 * xz + v11 * (four - xx - three * yy) -
           two * (v12 * yz + v13 * xy + v14 * yz + v15 * xy);
  out[2] = out[2] + v10 * xy + set1(8.f) * (v11 * yz + v13 * xz) + v12 * (two * zz - xx - yy) + v14 * (xx - yy);
}

// Coefficients [count][3] of up to kLanes Gaussians.
static inline void load_harmonics(const float* rows, int harmonics, int count, F (&sh)[kMaxHarmonics][3]) {
  for (int s = 0; s < harmonics; ++s)
    for (int k = 0; k < 3; ++k) sh[s][k] = load_column(rows, 3 * harmonics, 3 * s + k, count);
}

// 0.5 + sum; what is seen is that or 0.
static inline void harmonic_colors(int count, const F* basis, const F (&sh)[kMaxHarmonics][3], F* color) {
  for (int k = 0; k < 3; ++k) {
    color[k] = set1(0.5f);
    for (int s = 0; s < count; ++s) color[k] = fma(basis[s], sh[s][k], color[k]);
  }
}

// Adds to the gradients of coefficients and means, and returns the means' share (minus it is the camera centre's).
static inline void harmonics_backward(int count, const Camera& c, const F* mean, M visible, const F* v_color,
                                      const F (&sh)[kMaxHarmonics][3], F (&v_sh)[kMaxHarmonics][3], F* v_mean,
                                      F* share) {
  const Direction d = direction_to(c, mean);
  F basis[kMaxHarmonics], v_basis[kMaxHarmonics], color[3], v[3], slope[3];
  harmonics(count, d, basis);
  harmonic_colors(count, basis, sh, color);
  for (int k = 0; k < 3; ++k) v[k] = keep(visible & (color[k] >= set1(0.f)), v_color[k]);
  for (int s = 0; s < count; ++s) {
    for (int k = 0; k < 3; ++k) v_sh[s][k] = fma(basis[s], v[k], v_sh[s][k]);
    v_basis[s] = dot3(v, sh[s][0], sh[s][1], sh[s][2]);
  }
  harmonics_slopes(count, d, v_basis, slope);
  const F along = dot3(slope, d.x, d.y, d.z), direction[3] = {d.x, d.y, d.z};
  for (int k = 0; k < 3; ++k) {
    share[k] = keep(visible, fnma(along, direction[k], slope[k]) * d.inverse_length);
    v_mean[k] = v_mean[k] + share[k];
  }
}

}  // namespace TG_VARIANT
