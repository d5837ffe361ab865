// Projection of kLanes Gaussians at once to splats (EWA), and its gradients. One lane = one Gaussian. In matrix form:
// cov2d = P P^T + blur with P = J R L, L = rotation(quat) diag(scale); the backward pass follows from it.
#pragma once
#include "common.h"

namespace TG_VARIANT {

struct Camera {
  float rotation[9], translation[3], centre[3];
  float fx, fy, cx, cy;
  float min_x, max_x, min_y, max_y;  // limits of x / z and y / z in the Jacobian
};

static Camera make_camera(const float* cam_from_world, const float* intrinsics, float width, float height) {
  Camera c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) c.rotation[3 * i + j] = cam_from_world[4 * i + j];
    c.translation[i] = cam_from_world[4 * i + 3];
  }
  for (int j = 0; j < 3; ++j) {
    c.centre[j] = 0;
    for (int i = 0; i < 3; ++i) c.centre[j] -= c.rotation[3 * i + j] * c.translation[i];
  }
  c.fx = intrinsics[0], c.fy = intrinsics[4], c.cx = intrinsics[2], c.cy = intrinsics[5];
  const float margin_x = 0.15f * width / c.fx, margin_y = 0.15f * height / c.fy;  // 0.3 of half the field of view
  c.min_x = -c.cx / c.fx - margin_x, c.max_x = (width - c.cx) / c.fx + margin_x;
  c.min_y = -c.cy / c.fy - margin_y, c.max_y = (height - c.cy) / c.fy + margin_y;
  return c;
}

// Column k of `count` <= kLanes rows of `width` values; missing rows repeat the last one.
static inline F load_column(const float* rows, int width, int k, int count) {
  float column[kLanes];
  for (int i = 0; i < kLanes; ++i) column[i] = rows[smaller(i, count - 1) * width + k];
  return load(column);
}

static inline void store_column(float* rows, int width, int k, int count, F value) {
  float column[kLanes];
  store(column, value);
  for (int i = 0; i < count; ++i) rows[i * width + k] = column[i];
}

struct Shapes {  // the same for all cameras
  F mean[3], unit[4], inverse_norm, scale[3], rotation[9], l[9];
};

static inline Shapes load_shapes(const float* means, const float* quats, const float* scales, int count) {
  Shapes s;
  for (int k = 0; k < 3; ++k) s.mean[k] = load_column(means, 3, k, count);
  for (int k = 0; k < 3; ++k) s.scale[k] = load_column(scales, 3, k, count);
  for (int k = 0; k < 4; ++k) s.unit[k] = load_column(quats, 4, k, count);
  const F one = set1(1.f), two = set1(2.f);
  const F square = fma(s.unit[0], s.unit[0], s.unit[1] * s.unit[1]) + fma(s.unit[2], s.unit[2], s.unit[3] * s.unit[3]);
  s.inverse_norm = one / max(sqrt(square), set1(1e-12f));  // a zero quaternion means no rotation
  for (int k = 0; k < 4; ++k) s.unit[k] = s.unit[k] * s.inverse_norm;
  const F w = s.unit[0], x = s.unit[1], y = s.unit[2], z = s.unit[3];
  F* r = s.rotation;
  r[0] = fnma(two, fma(y, y, z * z), one), r[1] = two * (x * y - w * z), r[2] = two * fma(x, z, w * y);
  r[3] = two * fma(x, y, w * z), r[4] = fnma(two, fma(x, x, z * z), one), r[5] = two * (y * z - w * x);
  r[6] = two * (x * z - w * y), r[7] = two * fma(y, z, w * x), r[8] = fnma(two, fma(x, x, y * y), one);
  for (int i = 0; i < 9; ++i) s.l[i] = r[i] * s.scale[i % 3];
  return s;
}

struct Projection {
  F x, y, z;              // camera frame
  F inverse_z, tx, ty;    // tx, ty: clamped x, y of the Jacobian
  M inside_x, inside_y;
  F jx, jxz, jy, jyz;     // the Jacobian's entries
  F m[9], p[6];           // R L and J R L
  F cov_xx, cov_xy, cov_yy, determinant;
};

static inline F dot3(const F* a, F b0, F b1, F b2) { return fma(a[0], b0, fma(a[1], b1, a[2] * b2)); }

static inline Projection project(const Camera& c, const Shapes& s) {
  Projection q;
  F r[9];
  for (int i = 0; i < 9; ++i) r[i] = set1(c.rotation[i]);
  q.x = dot3(r, s.mean[0], s.mean[1], s.mean[2]) + set1(c.translation[0]);
  q.y = dot3(r + 3, s.mean[0], s.mean[1], s.mean[2]) + set1(c.translation[1]);
  q.z = dot3(r + 6, s.mean[0], s.mean[1], s.mean[2]) + set1(c.translation[2]);
  const F inverse_z = q.inverse_z = set1(1.f) / q.z, u = q.x * inverse_z, v = q.y * inverse_z;
  const F min_x = set1(c.min_x), max_x = set1(c.max_x), min_y = set1(c.min_y), max_y = set1(c.max_y);
  q.inside_x = (u <= max_x) & (u >= min_x), q.inside_y = (v <= max_y) & (v >= min_y);
  q.tx = q.z * min(max_x, max(min_x, u)), q.ty = q.z * min(max_y, max(min_y, v));
  q.jx = set1(c.fx) * inverse_z, q.jy = set1(c.fy) * inverse_z;
  q.jxz = set1(0.f) - q.jx * q.tx * inverse_z, q.jyz = set1(0.f) - q.jy * q.ty * inverse_z;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) q.m[3 * i + j] = dot3(r + 3 * i, s.l[j], s.l[3 + j], s.l[6 + j]);
  for (int j = 0; j < 3; ++j) {
    q.p[j] = fma(q.jx, q.m[j], q.jxz * q.m[6 + j]);
    q.p[3 + j] = fma(q.jy, q.m[3 + j], q.jyz * q.m[6 + j]);
  }
  const F *a = q.p, *b = q.p + 3, blur = set1(kBlur);
  const F xx = dot3(a, a[0], a[1], a[2]), yy = dot3(b, b[0], b[1], b[2]);
  q.cov_xx = xx + blur, q.cov_yy = yy + blur, q.cov_xy = dot3(a, b[0], b[1], b[2]);
  // Lagrange's identity: a sum of positive terms, where xx yy - xy xy would lose all digits for needles.
  const F c0 = a[1] * b[2] - a[2] * b[1], c1 = a[2] * b[0] - a[0] * b[2], c2 = a[0] * b[1] - a[1] * b[0];
  q.determinant = fma(c0, c0, fma(c1, c1, c2 * c2)) + blur * (xx + yy + blur);
  return q;
}

// Splats field by field; `visible` has bit i if splat i can touch a pixel.
struct SplatLanes {
  F x, y, ux, uy, vy, extent_x, extent_y, depth;
  unsigned visible;
};

static inline SplatLanes make_splats(const Camera& c, const Projection& q, F log_opacity, float width, float height) {
  SplatLanes s;
  s.x = fma(set1(c.fx), q.x * q.inverse_z, set1(c.cx)), s.y = fma(set1(c.fy), q.y * q.inverse_z, set1(c.cy));
  const F reach = log_opacity - set1(kLog2MinAlpha);  // in the units of the exponent
  const F scale = max(reach, set1(0.f)) * set1(2.f / kLog2E), slack = set1(1.0001f), pixels = set1(1e-3f);
  s.extent_x = fma(sqrt(scale * q.cov_xx), slack, pixels), s.extent_y = fma(sqrt(scale * q.cov_yy), slack, pixels);
  const F half = set1(0.5f * kLog2E);
  s.ux = sqrt(half * q.cov_yy / q.determinant);
  s.uy = set1(0.f) - s.ux * q.cov_xy / q.cov_yy;
  s.vy = sqrt(half / q.cov_yy);
  s.depth = q.z;
  const F centre = set1(0.5f), far_x = set1(width - 0.5f), far_y = set1(height - 0.5f);
  const M on_screen = (s.x + s.extent_x > centre) & (far_x > s.x - s.extent_x) & (s.y + s.extent_y > centre) &
                        (far_y > s.y - s.extent_y);
  const M sound = (q.z >= set1(kNear)) & (reach >= set1(0.f)) & (q.determinant <= set1(1e30f));
  s.visible = bits(on_screen & sound);
  return s;
}

struct ShapeGradients {
  F mean[3], l[9];
};

// Adds what one image says about the Gaussians to their gradients and, if given, to the camera's (12 lanes-wide sums:
// rotation, translation). `v`: the visible splats' gradients, field by field as in SplatGradient.
static inline void project_backward(const Camera& c, const Shapes& s, M visible, const F* v, ShapeGradients* out,
                                    F* camera) {
  const Projection q = project(c, s);
  const F inverse = set1(1.f) / q.determinant, minus_half = set1(-0.5f), zero = set1(0.f), two = set1(2.f);
  const F a = q.cov_yy * inverse, b = zero - q.cov_xy * inverse, d = q.cov_xx * inverse;  // conic
  const F v_x = fma(a, v[1], b * v[2]), v_y = fma(b, v[1], d * v[2]);                     // 2D mean
  // V = dL/d(conic), symmetric; dL/d(cov) = -conic V conic.
  const F v_a = minus_half * v[3], v_b = minus_half * v[4], v_d = minus_half * v[5];
  const F ta = fma(v_a, a, v_b * b), tb = fma(v_a, b, v_b * d), tc = fma(v_b, a, v_d * b), td = fma(v_b, b, v_d * d);
  const F minus_two = set1(-2.f);
  const F w_xx = minus_two * fma(a, ta, b * tc), w_xy = minus_two * fma(a, tb, b * td),
            w_yy = minus_two * fma(b, tb, d * td);
  F v_p[6], v_m[9];
  F v_jx = zero, v_jxz = zero, v_jy = zero, v_jyz = zero;
  for (int j = 0; j < 3; ++j) {
    v_p[j] = fma(w_xx, q.p[j], w_xy * q.p[3 + j]);
    v_p[3 + j] = fma(w_xy, q.p[j], w_yy * q.p[3 + j]);
    v_m[j] = q.jx * v_p[j], v_m[3 + j] = q.jy * v_p[3 + j], v_m[6 + j] = fma(q.jxz, v_p[j], q.jyz * v_p[3 + j]);
    v_jx = fma(v_p[j], q.m[j], v_jx), v_jxz = fma(v_p[j], q.m[6 + j], v_jxz);
    v_jy = fma(v_p[3 + j], q.m[3 + j], v_jy), v_jyz = fma(v_p[3 + j], q.m[6 + j], v_jyz);
  }
  const F iz = q.inverse_z, v_tx = zero - q.jx * iz * v_jxz, v_ty = zero - q.jy * iz * v_jyz;
  const F slope = fma(q.jx * q.x, v_x, q.jy * q.y * v_y) + fma(q.jx, v_jx, q.jy * v_jy) +
                    two * fma(q.jxz, v_jxz, q.jyz * v_jyz);
  F v_cam[3] = {fma(q.jx, v_x, keep(q.inside_x, v_tx)), fma(q.jy, v_y, keep(q.inside_y, v_ty)), fnma(iz, slope, v[9])};
  v_cam[2] = v_cam[2] + choose(q.inside_x, zero, v_tx * q.tx * iz) + choose(q.inside_y, zero, v_ty * q.ty * iz);
  for (int i = 0; i < 3; ++i) v_cam[i] = keep(visible, v_cam[i]);  // other lanes may hold NaN
  for (int i = 0; i < 9; ++i) v_m[i] = keep(visible, v_m[i]);
  const float* r = c.rotation;
  for (int j = 0; j < 3; ++j) {
    const F r0 = set1(r[j]), r1 = set1(r[3 + j]), r2 = set1(r[6 + j]);
    out->mean[j] = out->mean[j] + dot3(v_cam, r0, r1, r2);
    for (int i = 0; i < 3; ++i) {
      const F column[3] = {v_m[i], v_m[3 + i], v_m[6 + i]};
      out->l[3 * j + i] = out->l[3 * j + i] + dot3(column, r0, r1, r2);
    }
  }
  if (!camera) return;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j)
      camera[3 * i + j] = fma(v_cam[i], s.mean[j], dot3(v_m + 3 * i, s.l[3 * j], s.l[3 * j + 1], s.l[3 * j + 2]));
    camera[9 + i] = v_cam[i];
  }
}

static inline void shape_backward(const Shapes& s, const ShapeGradients& v, F* v_quat, F* v_scale) {
  F r[9];
  for (int j = 0; j < 3; ++j) {
    const F column[3] = {s.rotation[j], s.rotation[3 + j], s.rotation[6 + j]};
    v_scale[j] = dot3(column, v.l[j], v.l[3 + j], v.l[6 + j]);
  }
  for (int i = 0; i < 9; ++i) r[i] = s.scale[i % 3] * v.l[i];
  const F w = s.unit[0], x = s.unit[1], y = s.unit[2], z = s.unit[3], two = set1(2.f);
  const F turn_x = r[7] - r[5], turn_y = r[2] - r[6], turn_z = r[3] - r[1];
  const F xy = r[1] + r[3], xz = r[2] + r[6], yz = r[5] + r[7];
  const F u[4] = {
      two * fma(x, turn_x, fma(y, turn_y, z * turn_z)),
      two * (fma(w, turn_x, fma(y, xy, z * xz)) - two * x * (r[4] + r[8])),
      two * (fma(w, turn_y, fma(x, xy, z * yz)) - two * y * (r[0] + r[8])),
      two * (fma(w, turn_z, fma(x, xz, y * yz)) - two * z * (r[0] + r[4])),
  };
  const F along = fma(u[0], w, fma(u[1], x, fma(u[2], y, u[3] * z)));
  for (int i = 0; i < 4; ++i) v_quat[i] = fnma(along, s.unit[i], u[i]) * s.inverse_norm;
}

}  // namespace TG_VARIANT
