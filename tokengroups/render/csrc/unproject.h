// From gradients of splats to gradients of Gaussians and cameras.
#pragma once
#include "backward.h"

namespace TG_VARIANT {

// The splats' gradients of up to kLanes Gaussians, summed over the threads that worked on the image, field by field; the
// last field is 1 if the Gaussian is visible. Returns whether any is.
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

// Gradients of `count` <= kLanes Gaussians, from `row` on, of one scene. `cameras`: [I, 12] sums, or null.
static void unproject_gaussians(const TgScene& in, const Context& ctx, const Shares& shares, int64_t row, int count,
                                const TgGradients& out, double* cameras) {
  const int64_t scene = row / in.gaussians, n = row % in.gaussians, d = in.channels;
  const Shapes shapes = load_shapes(in.means + 3 * row, in.quats + 4 * row, in.scales + 3 * row, count);
  ShapeGradients gradients;
  memset((void*)&gradients, 0, sizeof gradients);
  float fields[11][kLanes];
  F v[10], opacity = set1(0.f), color[3] = {opacity, opacity, opacity};
  for (int64_t c = 0; c < in.cameras; ++c) {
    const int64_t image = scene * in.cameras + c;
    const bool any = collect(in, ctx, shares, image, n, count, fields);
    for (int k = 0; k < 10; ++k) v[k] = load(fields[k]);
    if (in.colors_per_camera)
      for (int k = 0; k < d; ++k) store_column(out.colors + (image * in.gaussians + n) * d, (int)d, k, count, v[6 + k]);
    if (!any) continue;
    for (int k = 0; k < 3; ++k) color[k] = color[k] + v[6 + k];
    opacity = opacity + v[0];
    F camera[12];
    project_backward(ctx.cameras[image], shapes, load(fields[10]) > set1(0.5f), v, &gradients, cameras ? camera : nullptr);
    for (int k = 0; k < 12 && cameras; ++k) cameras[12 * image + k] += lane_sum(camera[k]);
  }
  F v_quat[4], v_scale[3];
  shape_backward(shapes, gradients, v_quat, v_scale);
  for (int k = 0; k < 3; ++k) store_column(out.means + 3 * row, 3, k, count, gradients.mean[k]);
  for (int k = 0; k < 4; ++k) store_column(out.quats + 4 * row, 4, k, count, v_quat[k]);
  for (int k = 0; k < 3; ++k) store_column(out.scales + 3 * row, 3, k, count, v_scale[k]);
  // An invisible Gaussian may have opacity 0; a visible one has at least 1/255.
  const F given = load_column(in.opacities + row, 1, 0, count);
  store_column(out.opacities + row, 1, 0, count, opacity / max(given, set1(1.f / 256.f)));
  if (!in.colors_per_camera)
    for (int k = 0; k < d; ++k) store_column(out.colors + row * d, (int)d, k, count, color[k]);
}

static bool unproject(const TgScene& in, const Context& ctx, const Shares& shares, const TgGradients& out) {
  const int64_t images = in.scenes * in.cameras;
  const int threads = (int)in.threads;
  Buffer<double> cameras;  // [threads, I, 12]
  if (!cameras.resize(threads * images * 12)) return false;
  memset(cameras.data, 0, sizeof(double) * threads * images * 12);
  const int64_t groups = (in.gaussians + kLanes - 1) / kLanes;  // of Gaussians, in a scene
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int t = 0; t < threads; ++t) {
    for (int64_t i = in.scenes * groups * t / threads; i < in.scenes * groups * (t + 1) / threads; ++i) {
      const int64_t n = i % groups * kLanes, row = i / groups * in.gaussians + n;
      unproject_gaussians(in, ctx, shares, row, (int)smaller((int64_t)kLanes, in.gaussians - n), out,
                          out.cam_from_world ? cameras.data + t * images * 12 : nullptr);
    }
  }
  if (!out.cam_from_world) return true;
  for (int64_t i = 0; i < images; ++i) {
    for (int k = 0; k < 16; ++k) {
      double sum = 0;
      const int from = k >= 12 ? -1 : k % 4 == 3 ? 9 + k / 4 : k / 4 * 3 + k % 4;
      for (int t = 0; from >= 0 && t < threads; ++t) sum += cameras[(t * images + i) * 12 + from];
      out.cam_from_world[16 * i + k] = (float)sum;
    }
  }
  return true;
}

}  // namespace TG_VARIANT
