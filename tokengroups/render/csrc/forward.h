// Forward compositing.
#pragma once
#include "wide.h"

namespace TG_VARIANT {

struct ForwardScratch {
  Tile tile;
  WideBlock wide[2];
  bool reserve(const TgScene& in, const Context& ctx) {
    bool enough = tile.reserve(in, ctx);
    for (int k = 0; k < 2; ++k)
      if (in.wide[k].dim) enough = enough && wide[k].reserve(ctx.most_entries, in.wide[k].dim);
    return enough;
  }
};

struct Composite {
  float transmittance[16];  // goes on falling when the pixel is finished; 0 outside the image
  float alpha[16], color[3][16], depth[16];
};

// Composites lanes `first` to `first + kLanes` of a batch. Returns whether all these pixels are finished.
template <bool kWide>
static inline bool composite_lanes(const TgScene& in, ForwardScratch* scratch, const int* list, int n, int first,
                                   const float* alphas, Composite* c) {
  const Splat* splats = scratch->tile.local.data;
  F transmittance = load(c->transmittance + first), sum = load(c->alpha + first), depth = load(c->depth + first);
  F red = load(c->color[0] + first), green = load(c->color[1] + first), blue = load(c->color[2] + first);
  M open = transmittance > set1(kMinTransmittance);
  for (int i = 0; i < n; ++i) {
    const Splat& splat = splats[list[i]];
    const F alpha = min(load(alphas + 16 * i + first), set1(kMaxAlpha)), next = transmittance * (set1(1.f) - alpha);
    open = next > set1(kMinTransmittance);  // the pair that would cross the limit is left out
    const F weight = keep(open, transmittance * alpha);
    transmittance = next;
    sum = sum + weight;
    red = fma(weight, set1(splat.color[0]), red), green = fma(weight, set1(splat.color[1]), green);
    blue = fma(weight, set1(splat.color[2]), blue), depth = fma(weight, set1(splat.depth), depth);
    if (kWide) {
      for (int k = 0; k < 2; ++k) {
        if (!in.wide[k].dim) continue;
        scratch->wide[k].touch(splat.slot[k]);
        scratch->wide[k].add(splat.slot[k], first, weight);
      }
    }
  }
  store(c->transmittance + first, transmittance), store(c->alpha + first, sum), store(c->depth + first, depth);
  store(c->color[0] + first, red), store(c->color[1] + first, green), store(c->color[2] + first, blue);
  return none(open);
}

template <bool kWide>
static inline bool composite_batch(const TgScene& in, ForwardScratch* scratch, const int* list, int n, const Block& b,
                                   Composite* c) {
  alignas(64) float alphas[kBatch * 16];
  batch_alphas(scratch->tile.local.data, list, n, b, alphas);
  bool finished = true;
  for (int first = 0; first < 16; first += kLanes)
    finished = composite_lanes<kWide>(in, scratch, list, n, first, alphas, c) && finished;
  return finished;
}

static inline void write_block(const TgScene& in, const TgImages& out, const Block& b, const Composite& c) {
  for (int l = 0; l < 16; ++l) {
    const int64_t pixel = b.pixel[l];
    if (pixel < 0) continue;
    out.alphas[pixel] = c.alpha[l];
    out.depths[pixel] = c.alpha[l] > 0.f ? c.depth[l] / c.alpha[l] : 0.f;
    for (int k = 0; k < in.channels; ++k) out.colors[pixel * in.channels + k] = c.color[k][l];
  }
}

template <bool kWide>
static void composite_tile(const TgScene& in, Context* ctx, const TgImages& out, int64_t index,
                           ForwardScratch* scratch) {
  Tile& t = scratch->tile;
  t.open(in, *ctx, index);
  for (int number = 0; number < 16; ++number) {
    Block b;
    if (!open_block(in, t, number, &b)) continue;
    for (int k = 0; k < 2; ++k) scratch->wide[k].open();
    Composite c = {};
    memcpy(c.transmittance, b.inside, sizeof b.inside);
    bool finished = false;
    for (int first = 0; first < t.count && !finished; first += kChunk) {
      const int n = smaller(kChunk, t.count - first);
      if (first + n > t.prepared) prepare(&t, in, first + n);
      const int visits = select_bit(t.masks + first, n, number, first, t.list);
      for (int i = 0; i < visits && !finished; i += kBatch)
        finished = composite_batch<kWide>(in, scratch, t.list + i, smaller(kBatch, visits - i), b, &c);
    }
    write_block(in, out, b, c);
    for (int k = 0; k < 2; ++k) {
      const int64_t dim = in.wide[k].dim;
      if (!dim) continue;
      const float* values = wide_values(in, in.wide[k], t.image);
      if (k == 1 && out.largest) wide_largest(scratch->wide[k], t.rows[k], values, dim, b, out.largest);
      else wide_forward(scratch->wide[k], t.rows[k], values, dim, b, out.wide[k]);
    }
  }
  ctx->looked_at[index] = t.prepared;
}

static bool composite(const TgScene& in, Context* ctx, const TgImages& out) {
  const int threads = (int)smaller(in.threads, in.scenes * in.cameras * ctx->tiles());
  Buffer<int64_t> bounds;
  if (!bounds.resize(threads + 1)) return false;
  split_tiles(in, *ctx, threads, bounds.data);
  bool enough = true;
  const bool wide = in.wide[0].dim || in.wide[1].dim;
#pragma omp parallel num_threads(threads) reduction(&& : enough)
  {
    NoDenormals no_denormals;
    ForwardScratch scratch;
    enough = scratch.reserve(in, *ctx);
#pragma omp for schedule(static, 1)
    for (int t = 0; t < threads; ++t)
      for (int64_t i = bounds[t]; enough && i < bounds[t + 1]; ++i)
        wide ? composite_tile<true>(in, ctx, out, i, &scratch) : composite_tile<false>(in, ctx, out, i, &scratch);
  }
  return enough;
}

}  // namespace TG_VARIANT
