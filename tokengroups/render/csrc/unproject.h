// From gradients of splats to gradients of Gaussians and cameras.
#pragma once
#include "backward.h"

namespace TG_VARIANT {

// The splats' gradients of up to kLanes Gaussians, summed over the threads that worked on the image, field by field;
// the last field is 1 if the Gaussian is visible. Returns whether any is.
static inline bool collect(const TgScene& in, const Context& ctx, const Shares& shares, int64_t image, int64_t n,
                           int count, float (&fields)[11][kLanes]) {
  memset(fields, 0, sizeof fields);
  const int32_t* rank = ctx.rank.data + image * in.gaussians + n;
  bool any = false;
  for (int t = 0; t < shares.threads; ++t) {
    const int64_t first = shares.first[t * in.scenes * in.cameras + image];
    for (int i = 0; i < count && first >= 0; ++i) {
      if (rank[i] < 0) continue;
      const float* from = (const float*)&shares.gradients[first + rank[i]];
      for (int k = 0; k < 10; ++k) fields[k][i] += from[k];
      fields[10][i] = 1.f, any = true;
    }
  }
  return any;
}

static const int kCameraSums = 15;  // gradients of rotation and translation (projection) and of the centre (colours)

struct ColorGradients {
  F color[3], sh[kMaxHarmonics][3];
};

// What one image says about the colours (and, through harmonics, means) of up to kLanes Gaussians from `n` on.
static inline void color_backward(const TgScene& in, const Camera& camera, const Shapes& shapes, M visible,
                                  const F* v_color, const F (&sh)[kMaxHarmonics][3], ColorGradients* out, F* v_mean,
                                  F* share) {
  if (in.harmonics)
    return harmonics_backward((int)in.harmonics, camera, shapes.mean, visible, v_color, sh, out->sh, v_mean, share);
  for (int k = 0; k < 3; ++k) out->color[k] = out->color[k] + v_color[k], share[k] = set1(0.f);
}

static inline void store_colors(const TgScene& in, const ColorGradients& v, int64_t row, int count, float* out) {
  const int s = (int)in.harmonics, d = (int)in.channels;
  for (int i = 0; i < s; ++i)
    for (int k = 0; k < 3; ++k) store_column(out + row * 3 * s, 3 * s, 3 * i + k, count, v.sh[i][k]);
  for (int k = 0; k < d && !s && !in.colors_per_camera; ++k) store_column(out + row * d, d, k, count, v.color[k]);
}

// Gradients of `count` <= kLanes Gaussians, from `row` on, of one scene. `cameras`: [I, kCameraSums], or null.
static void unproject_gaussians(const TgScene& in, const Context& ctx, const Shares& shares, int64_t row, int count,
                                const TgGradients& out, double* cameras) {
  const int64_t scene = row / in.gaussians, n = row % in.gaussians, d = in.channels;
  const Shapes shapes = load_shapes(in.means + 3 * row, in.quats + 4 * row, in.scales + 3 * row, count);
  ShapeGradients gradients;
  ColorGradients colors;
  memset((void*)&gradients, 0, sizeof gradients);
  memset((void*)&colors, 0, sizeof colors);
  F sh[kMaxHarmonics][3], v[10], opacity = set1(0.f);
  load_harmonics(in.colors + row * 3 * in.harmonics, (int)in.harmonics, count, sh);
  float fields[11][kLanes];
  for (int64_t c = 0; c < in.cameras; ++c) {
    const int64_t image = scene * in.cameras + c;
    const bool any = collect(in, ctx, shares, image, n, count, fields);
    for (int k = 0; k < 10; ++k) v[k] = load(fields[k]);
    for (int k = 0; k < d && in.colors_per_camera; ++k)
      store_column(out.colors + (image * in.gaussians + n) * d, (int)d, k, count, v[6 + k]);
    if (!any) continue;
    const M visible = load(fields[10]) > set1(0.5f);
    opacity = opacity + v[0];
    F camera[kCameraSums];
    project_backward(ctx.cameras[image], shapes, visible, v, &gradients, cameras ? camera : nullptr);
    color_backward(in, ctx.cameras[image], shapes, visible, v + 6, sh, &colors, gradients.mean, camera + 12);
    for (int k = 0; k < kCameraSums && cameras; ++k) cameras[kCameraSums * image + k] += lane_sum(camera[k]);
  }
  F v_quat[4], v_scale[3];
  shape_backward(shapes, gradients, v_quat, v_scale);
  for (int k = 0; k < 3; ++k) store_column(out.means + 3 * row, 3, k, count, gradients.mean[k]);
  for (int k = 0; k < 4; ++k) store_column(out.quats + 4 * row, 4, k, count, v_quat[k]);
  for (int k = 0; k < 3; ++k) store_column(out.scales + 3 * row, 3, k, count, v_scale[k]);
  // An invisible Gaussian may have opacity 0; a visible one has at least 1/255.
  const F given = load_column(in.opacities + row, 1, 0, count);
  store_column(out.opacities + row, 1, 0, count, opacity / max(given, set1(1.f / 256.f)));
  store_colors(in, colors, row, count, out.colors);
}

// Writes a camera's gradient [4, 4]. The centre of the colours' rays is -R^T t.
static void store_camera(const Camera& c, const double* sums, float* out) {
  for (int i = 0; i < 3; ++i) {
    double translation = sums[9 + i];
    for (int j = 0; j < 3; ++j) {
      const double v_centre = -sums[12 + j];
      out[4 * i + j] = (float)(sums[3 * i + j] - c.translation[i] * v_centre);
      translation -= c.rotation[3 * i + j] * v_centre;
    }
    out[4 * i + 3] = (float)translation;
  }
  memset(out + 12, 0, sizeof(float) * 4);
}

static bool unproject(const TgScene& in, const Context& ctx, const Shares& shares, const TgGradients& out) {
  const int64_t images = in.scenes * in.cameras;
  const int threads = (int)in.threads;
  Buffer<double> cameras;  // [threads, I, kCameraSums]
  if (!cameras.resize(threads * images * kCameraSums)) return false;
  memset(cameras.data, 0, sizeof(double) * threads * images * kCameraSums);
  const int64_t groups = (in.gaussians + kLanes - 1) / kLanes;  // of Gaussians, in a scene
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int t = 0; t < threads; ++t) {
    for (int64_t i = in.scenes * groups * t / threads; i < in.scenes * groups * (t + 1) / threads; ++i) {
      const int64_t n = i % groups * kLanes, row = i / groups * in.gaussians + n;
      unproject_gaussians(in, ctx, shares, row, (int)smaller((int64_t)kLanes, in.gaussians - n), out,
                          out.cam_from_world ? cameras.data + t * images * kCameraSums : nullptr);
    }
  }
  if (!out.cam_from_world) return true;
  for (int64_t i = 0; i < images; ++i) {
    double* sums = cameras.data + i * kCameraSums;  // the first thread's; the others' are added in their order
    for (int t = 1; t < threads; ++t)
      for (int k = 0; k < kCameraSums; ++k) sums[k] += cameras[(t * images + i) * kCameraSums + k];
    store_camera(ctx.cameras[i], sums, out.cam_from_world + 16 * i);
  }
  return true;
}

}  // namespace TG_VARIANT
