// From gradients of splats to gradients of Gaussians and cameras.
#pragma once
#include "backward.h"

namespace TG_VARIANT {

// The gradient of one Gaussian in one image: the sum over the threads that worked on the image.
static inline SplatGradient collect(const Shares& shares, int64_t images, int64_t image, int rank) {
  SplatGradient sum = {};
  for (int t = 0; t < shares.threads; ++t) {
    const int64_t first = shares.first[t * images + image];
    if (first < 0) continue;
    const float* from = (const float*)&shares.gradients[first + rank];
    for (int k = 0; k < 12; ++k) ((float*)&sum)[k] += from[k];
  }
  return sum;
}

static void unproject_gaussian(const TgScene& in, const Context& ctx, const Shares& shares, int64_t row,
                               const TgGradients& out, double* cameras) {
  const int64_t scene = row / in.gaussians, n = row % in.gaussians, d = in.channels;
  const Shape shape = make_shape(in.quats + 4 * row, in.scales + 3 * row);
  ShapeGradient gradient;
  float opacity = 0, color[3] = {0, 0, 0};
  for (int64_t c = 0; c < in.cameras; ++c) {
    const int64_t image = scene * in.cameras + c;
    const int rank = ctx.rank[image * in.gaussians + n];
    SplatGradient s = {};
    if (rank >= 0) {
      s = collect(shares, in.scenes * in.cameras, image, rank);
      opacity += s.g;
      project_backward(ctx.cameras[image], in.means + 3 * row, shape.l, s, &gradient,
                       cameras ? cameras + 12 * image : nullptr);
    }
    for (int k = 0; k < d; ++k) {
      color[k] += s.color[k];
      if (in.colors_per_camera) out.colors[(image * in.gaussians + n) * d + k] = s.color[k];
    }
  }
  memcpy(out.means + 3 * row, gradient.mean, sizeof gradient.mean);
  shape_backward(shape, in.scales + 3 * row, gradient, out.quats + 4 * row, out.scales + 3 * row);
  out.opacities[row] = opacity == 0.f ? 0.f : opacity / in.opacities[row];
  if (!in.colors_per_camera) memcpy(out.colors + row * d, color, sizeof(float) * d);
}

static bool unproject(const TgScene& in, const Context& ctx, const Shares& shares, const TgGradients& out) {
  const int64_t rows = in.scenes * in.gaussians, images = in.scenes * in.cameras;
  const int threads = (int)in.threads;
  Buffer<double> cameras;  // [threads, I, 12]
  if (!cameras.resize(threads * images * 12)) return false;
  memset(cameras.data, 0, sizeof(double) * threads * images * 12);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int t = 0; t < threads; ++t)
    for (int64_t i = rows * t / threads; i < rows * (t + 1) / threads; ++i)
      unproject_gaussian(in, ctx, shares, i, out, out.cam_from_world ? cameras.data + t * images * 12 : nullptr);
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
