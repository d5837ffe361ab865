// The two entry points of a variant. Included by one source file per instruction set, which defines TG_VARIANT, a
// namespace, so that no function compiled for one instruction set is ever linked into another.
#pragma once
#include "forward.h"
#include "unproject.h"
#include "variants.h"

namespace TG_VARIANT {

static bool finite(const float* values, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += values[i] * 0.f;
  return sum == 0.f;
}

// Index of the first input that holds NaN or infinity, or -1.
static int64_t find_not_finite(const TgScene& in) {
  const int64_t rows = in.scenes * in.gaussians, images = in.scenes * in.cameras;
  const int64_t colors =
      (in.colors_per_camera ? images * in.gaussians : rows) * in.channels * larger(in.harmonics, (int64_t)1);
  const float* arrays[9] = {in.means,          in.quats,      in.scales,         in.opacities,     in.colors,
                            in.cam_from_world, in.intrinsics, in.wide[0].values, in.wide[1].values};
  const int64_t counts[9] = {3 * rows,    4 * rows,   3 * rows, rows, colors, 16 * images, 9 * images,
                             Shares::wide_size(in, 0), Shares::wide_size(in, 1)};
  for (int i = 0; i < 9; ++i)
    if (!finite(arrays[i], counts[i])) return i;
  return -1;
}

static bool make_context(const TgScene& in, Context* ctx) {
  const int64_t images = in.scenes * in.cameras;
  ctx->tiles_x = (int)((in.width + kTile - 1) / kTile), ctx->tiles_y = (int)((in.height + kTile - 1) / kTile);
  if (!ctx->cameras.resize(images) || !ctx->splats.resize(images * in.gaussians) || !ctx->visible.resize(images) ||
      !ctx->rank.resize(images * in.gaussians) || !ctx->log_opacities.resize(in.scenes * in.gaussians) ||
      !ctx->tile_start.resize(images * (ctx->tiles() + 1)) || !ctx->looked_at.resize(images * ctx->tiles()))
    return false;
  for (int64_t i = 0; i < images; ++i)
    ctx->cameras[i] = make_camera(in.cam_from_world + 16 * i, in.intrinsics + 9 * i, (float)in.width, (float)in.height);
  return bin(in, ctx);
}

void release(void* context) { delete (Context*)context; }

int forward(const TgScene* in, const TgImages* images, void** context, int64_t* culprit) {
  *culprit = find_not_finite(*in);
  if (*culprit >= 0) return TG_NOT_FINITE;
  const int64_t pixels = in->scenes * in->cameras * in->height * in->width;
  for (int k = 0; k < 2; ++k)
    if (images->wide[k]) expect_writes(images->wide[k], sizeof(float) * pixels * in->wide[k].dim);
  Context* ctx = new Context;
  if (!make_context(*in, ctx) || !composite(*in, ctx, *images)) {
    release(ctx);
    return TG_NO_MEMORY;
  }
  if (context) *context = ctx; else release(ctx);
  return TG_OK;
}

int backward(const TgScene* in, const TgImages* images, const TgImages* cotangents, const void* context,
             const TgGradients* gradients) {
  const Context& ctx = *(const Context*)context;
  Shares shares;
  if (!shares.reserve(*in, ctx) || !differentiate(*in, ctx, *images, *cotangents, *gradients, &shares))
    return TG_NO_MEMORY;
  add_wide_shares(*in, shares, *gradients);
  return unproject(*in, ctx, shares, *gradients) ? TG_OK : TG_NO_MEMORY;
}

}  // namespace TG_VARIANT
