// Projection of Gaussians to splats (EWA), and its gradients. Formulas: gsplat's documentation; the backward pass is
// derived in matrix form: cov2d = P P^T with P = J R L, L = rotation(quat) diag(scale).
#pragma once
#include "common.h"

namespace TG_VARIANT {

static Camera make_camera(const float* cam_from_world, const float* intrinsics, float width, float height) {
  Camera c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) c.rotation[3 * i + j] = cam_from_world[4 * i + j];
    c.translation[i] = cam_from_world[4 * i + 3];
  }
  c.fx = intrinsics[0], c.fy = intrinsics[4], c.cx = intrinsics[2], c.cy = intrinsics[5];
  const float margin_x = 0.15f * width / c.fx, margin_y = 0.15f * height / c.fy;  // 0.3 of half the field of view
  c.min_x = -c.cx / c.fx - margin_x, c.max_x = (width - c.cx) / c.fx + margin_x;
  c.min_y = -c.cy / c.fy - margin_y, c.max_y = (height - c.cy) / c.fy + margin_y;
  return c;
}

// Unit quaternion; returns 1 / max(norm, 1e-12), so that a zero quaternion means no rotation.
static inline float normalize_quat(const float* quat, float* unit) {
  const float norm = sqrtf(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3]);
  const float inverse = 1.f / larger(norm, 1e-12f);
  for (int i = 0; i < 4; ++i) unit[i] = quat[i] * inverse;
  return inverse;
}

static inline void rotation_matrix(const float* q, float* r) {
  const float w = q[0], x = q[1], y = q[2], z = q[3];
  r[0] = 1 - 2 * (y * y + z * z), r[1] = 2 * (x * y - w * z), r[2] = 2 * (x * z + w * y);
  r[3] = 2 * (x * y + w * z), r[4] = 1 - 2 * (x * x + z * z), r[5] = 2 * (y * z - w * x);
  r[6] = 2 * (x * z - w * y), r[7] = 2 * (y * z + w * x), r[8] = 1 - 2 * (x * x + y * y);
}

struct Shape {  // of one Gaussian, the same for all cameras
  float unit[4], inverse_norm, rotation[9], l[9];
};

static inline Shape make_shape(const float* quat, const float* scale) {
  Shape s;
  s.inverse_norm = normalize_quat(quat, s.unit);
  rotation_matrix(s.unit, s.rotation);
  for (int i = 0; i < 9; ++i) s.l[i] = s.rotation[i] * scale[i % 3];
  return s;
}

struct Projection {
  float x, y, z;            // camera frame
  float inverse_z, tx, ty;  // tx, ty: clamped x, y of the Jacobian
  bool inside_x, inside_y;
  float m[9], p[6];         // R L and J R L
  float cov_xx, cov_xy, cov_yy, determinant;
};

static inline bool in_front(const Camera& c, const float* mean, Projection* p) {
  const float* r = c.rotation;
  p->x = r[0] * mean[0] + r[1] * mean[1] + r[2] * mean[2] + c.translation[0];
  p->y = r[3] * mean[0] + r[4] * mean[1] + r[5] * mean[2] + c.translation[1];
  p->z = r[6] * mean[0] + r[7] * mean[1] + r[8] * mean[2] + c.translation[2];
  return p->z >= kNear;
}

static inline void project_shape(const Camera& c, const float* l, Projection* p) {
  const float inverse_z = 1.f / p->z, u = p->x * inverse_z, v = p->y * inverse_z;
  p->inverse_z = inverse_z;
  p->inside_x = u <= c.max_x && u >= c.min_x, p->inside_y = v <= c.max_y && v >= c.min_y;
  p->tx = p->z * smaller(c.max_x, larger(c.min_x, u)), p->ty = p->z * smaller(c.max_y, larger(c.min_y, v));
  const float* r = c.rotation;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      p->m[3 * i + j] = r[3 * i] * l[j] + r[3 * i + 1] * l[3 + j] + r[3 * i + 2] * l[6 + j];
  const float jx = c.fx * inverse_z, jy = c.fy * inverse_z;
  const float jxz = -jx * p->tx * inverse_z, jyz = -jy * p->ty * inverse_z;
  for (int j = 0; j < 3; ++j) {
    p->p[j] = jx * p->m[j] + jxz * p->m[6 + j];
    p->p[3 + j] = jy * p->m[3 + j] + jyz * p->m[6 + j];
  }
  const float* a = p->p;
  p->cov_xx = a[0] * a[0] + a[1] * a[1] + a[2] * a[2] + kBlur;
  p->cov_xy = a[0] * a[3] + a[1] * a[4] + a[2] * a[5];
  p->cov_yy = a[3] * a[3] + a[4] * a[4] + a[5] * a[5] + kBlur;
  // The difference of products loses digits for needles; double keeps them.
  p->determinant = (float)((double)p->cov_xx * p->cov_yy - (double)p->cov_xy * p->cov_xy);
}

// Whether the splat can touch a pixel; fills it if so.
static inline bool make_splat(const Camera& c, const Projection& p, float opacity, float width, float height,
                              Splat* s) {
  const float log_opacity = log2f(opacity);
  const float reach = log_opacity - kLog2MinAlpha;  // in the units of the exponent
  if (!(reach >= 0.f) || !(p.determinant > 0.f) || !(p.determinant < 1e30f)) return false;
  s->x = c.fx * p.x * p.inverse_z + c.cx, s->y = c.fy * p.y * p.inverse_z + c.cy;
  const float scale = 2.f * reach / kLog2E;
  s->extent_x = sqrtf(scale * p.cov_xx) * 1.0001f + 1e-3f, s->extent_y = sqrtf(scale * p.cov_yy) * 1.0001f + 1e-3f;
  if (!(s->x + s->extent_x > 0.5f && s->x - s->extent_x < width - 0.5f)) return false;
  if (!(s->y + s->extent_y > 0.5f && s->y - s->extent_y < height - 0.5f)) return false;
  const float inverse = 1.f / p.determinant;
  s->xx = -0.5f * kLog2E * p.cov_yy * inverse;
  s->xy = kLog2E * p.cov_xy * inverse;
  s->yy = -0.5f * kLog2E * p.cov_xx * inverse;
  s->log_opacity = log_opacity, s->depth = p.z;
  return true;
}

struct ShapeGradient {
  float mean[3] = {0, 0, 0}, l[9] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
};

// Adds what one image says about a Gaussian to its gradient, and to the camera's (rotation and translation, or null).
static inline void project_backward(const Camera& c, const float* mean, const float* l, const SplatGradient& s,
                                    ShapeGradient* out, double* camera) {
  Projection p;
  in_front(c, mean, &p);
  project_shape(c, l, &p);
  const float inverse = 1.f / p.determinant;
  const float a = p.cov_yy * inverse, b = -p.cov_xy * inverse, d = p.cov_xx * inverse;  // conic
  const float v_x = a * s.gx + b * s.gy, v_y = b * s.gx + d * s.gy;                     // 2D mean
  // V = dL/d(conic), symmetric; dL/d(cov) = -conic V conic.
  const float v_a = -0.5f * s.gxx, v_b = -0.5f * s.gxy, v_d = -0.5f * s.gyy;
  const float ta = v_a * a + v_b * b, tb = v_a * b + v_b * d, tc = v_b * a + v_d * b, td = v_b * b + v_d * d;
  const float w_xx = -(a * ta + b * tc), w_xy = -(a * tb + b * td), w_yy = -(b * tb + d * td);
  float v_p[6], v_m[9];
  for (int j = 0; j < 3; ++j) {
    v_p[j] = 2.f * (w_xx * p.p[j] + w_xy * p.p[3 + j]);
    v_p[3 + j] = 2.f * (w_xy * p.p[j] + w_yy * p.p[3 + j]);
  }
  const float iz = p.inverse_z, jx = c.fx * iz, jy = c.fy * iz, jxz = -jx * p.tx * iz, jyz = -jy * p.ty * iz;
  float v_jx = 0, v_jxz = 0, v_jy = 0, v_jyz = 0;
  for (int j = 0; j < 3; ++j) {
    v_m[j] = jx * v_p[j], v_m[3 + j] = jy * v_p[3 + j], v_m[6 + j] = jxz * v_p[j] + jyz * v_p[3 + j];
    v_jx += v_p[j] * p.m[j], v_jxz += v_p[j] * p.m[6 + j];
    v_jy += v_p[3 + j] * p.m[3 + j], v_jyz += v_p[3 + j] * p.m[6 + j];
  }
  const float v_tx = -jx * iz * v_jxz, v_ty = -jy * iz * v_jyz;
  float v_cam[3] = {jx * v_x, jy * v_y, s.depth - (jx * p.x * v_x + jy * p.y * v_y) * iz};
  v_cam[2] -= iz * (jx * v_jx + jy * v_jy + 2.f * (jxz * v_jxz + jyz * v_jyz));
  if (p.inside_x) v_cam[0] += v_tx; else v_cam[2] += v_tx * p.tx * iz;
  if (p.inside_y) v_cam[1] += v_ty; else v_cam[2] += v_ty * p.ty * iz;
  const float* r = c.rotation;
  for (int j = 0; j < 3; ++j) {
    out->mean[j] += r[j] * v_cam[0] + r[3 + j] * v_cam[1] + r[6 + j] * v_cam[2];
    for (int i = 0; i < 3; ++i)
      out->l[3 * i + j] += r[i] * v_m[j] + r[3 + i] * v_m[3 + j] + r[6 + i] * v_m[6 + j];
  }
  if (!camera) return;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j)
      camera[3 * i + j] += v_cam[i] * mean[j] + v_m[3 * i] * l[3 * j] + v_m[3 * i + 1] * l[3 * j + 1] +
                           v_m[3 * i + 2] * l[3 * j + 2];
    camera[9 + i] += v_cam[i];
  }
}

static inline void shape_backward(const Shape& s, const float* scale, const ShapeGradient& v, float* v_quat,
                                  float* v_scale) {
  float r[9];
  for (int j = 0; j < 3; ++j) {
    v_scale[j] = 0;
    for (int i = 0; i < 3; ++i) {
      v_scale[j] += s.rotation[3 * i + j] * v.l[3 * i + j];
      r[3 * i + j] = scale[j] * v.l[3 * i + j];
    }
  }
  const float w = s.unit[0], x = s.unit[1], y = s.unit[2], z = s.unit[3];
  const float u[4] = {
      2 * (x * (r[7] - r[5]) + y * (r[2] - r[6]) + z * (r[3] - r[1])),
      2 * (w * (r[7] - r[5]) + y * (r[1] + r[3]) + z * (r[2] + r[6]) - 2 * x * (r[4] + r[8])),
      2 * (w * (r[2] - r[6]) + x * (r[1] + r[3]) + z * (r[5] + r[7]) - 2 * y * (r[0] + r[8])),
      2 * (w * (r[3] - r[1]) + x * (r[2] + r[6]) + y * (r[5] + r[7]) - 2 * z * (r[0] + r[4])),
  };
  const float along = u[0] * w + u[1] * x + u[2] * y + u[3] * z;
  for (int i = 0; i < 4; ++i) v_quat[i] = (u[i] - along * s.unit[i]) * s.inverse_norm;
}

}  // namespace TG_VARIANT
