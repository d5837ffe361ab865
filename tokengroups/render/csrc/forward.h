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
  F16 transmittance;  // goes on falling when the pixel is finished; 0 outside the image
  F16 alpha, color[3], depth;
};

// Returns whether all of the block's pixels are finished.
template <bool kWide>
static inline bool composite_batch(const TgScene& in, ForwardScratch* scratch, const int* list, int n, const Block& b,
                                   Composite* c) {
  float alphas[kBatch * 16];
  const Splat* splats = scratch->tile.local.data;
  batch_alphas(splats, list, n, b, alphas);
  Composite s = *c;
  M16 open = s.transmittance > set1(kMinTransmittance);
  for (int i = 0; i < n; ++i) {
    const Splat& splat = splats[list[i]];
    const F16 alpha = min(load(alphas + 16 * i), set1(kMaxAlpha)), next = s.transmittance * (set1(1.f) - alpha);
    open = next > set1(kMinTransmittance);  // the pair that would cross the limit is left out
    const F16 weight = keep(open, s.transmittance * alpha);
    s.transmittance = next;
    s.alpha = s.alpha + weight;
    for (int k = 0; k < 3; ++k) s.color[k] = fma(weight, set1(splat.color[k]), s.color[k]);
    s.depth = fma(weight, set1(splat.depth), s.depth);
    if (kWide) {
      for (int k = 0; k < 2; ++k) {
        if (!in.wide[k].dim) continue;
        scratch->wide[k].touch(splat.slot[k]);
        scratch->wide[k].add(splat.slot[k], weight);
      }
    }
  }
  *c = s;
  return none(open);
}

static inline void write_block(const TgScene& in, const TgImages& out, const Block& b, const Composite& c) {
  float alpha[16], color[3][16], depth[16];
  store(alpha, c.alpha), store(depth, c.depth);
  for (int k = 0; k < 3; ++k) store(color[k], c.color[k]);
  for (int l = 0; l < 16; ++l) {
    const int64_t pixel = b.pixel[l];
    if (pixel < 0) continue;
    out.alphas[pixel] = alpha[l];
    out.depths[pixel] = alpha[l] > 0.f ? depth[l] / alpha[l] : 0.f;
    for (int k = 0; k < in.channels; ++k) out.colors[pixel * in.channels + k] = color[k][l];
  }
}

template <bool kWide>
static void composite_tile(const TgScene& in, const Context& ctx, const TgImages& out, int64_t index,
                           ForwardScratch* scratch) {
  Tile& t = scratch->tile;
  t.open(in, ctx, index);
  for (int number = 0; number < 16; ++number) {
    Block b;
    if (!open_block(in, t, number, &b)) continue;
    for (int k = 0; k < 2; ++k) scratch->wide[k].open();
    const F16 zero = set1(0.f);
    Composite c = {load(b.inside), zero, {zero, zero, zero}, zero};
    bool finished = false;
    for (int first = 0; first < t.count && !finished; first += kChunk) {
      const int n = smaller(kChunk, t.count - first);
      if (first + n > t.prepared) prepare(&t, in, first + n);
      const int visits = select_bit(t.masks.data + first, n, number, first, t.list);
      for (int i = 0; i < visits && !finished; i += kBatch)
        finished = composite_batch<kWide>(in, scratch, t.list + i, smaller(kBatch, visits - i), b, &c);
    }
    write_block(in, out, b, c);
    for (int k = 0; k < 2; ++k)
      if (in.wide[k].dim)
        wide_forward(scratch->wide[k], t.rows[k], wide_values(in, in.wide[k], t.image), in.wide[k].dim, b, out.wide[k]);
  }
}

static bool composite(const TgScene& in, const Context& ctx, const TgImages& out) {
  const int threads = (int)smaller(in.threads, in.scenes * in.cameras * ctx.tiles());
  Buffer<int64_t> bounds;
  if (!bounds.resize(threads + 1)) return false;
  split_tiles(in, ctx, threads, bounds.data);
  bool enough = true;
  const bool wide = in.wide[0].dim || in.wide[1].dim;
#pragma omp parallel num_threads(threads) reduction(&& : enough)
  {
    NoDenormals no_denormals;
    ForwardScratch scratch;
    enough = scratch.reserve(in, ctx);
#pragma omp for schedule(static, 1)
    for (int t = 0; t < threads; ++t)
      for (int64_t i = bounds[t]; enough && i < bounds[t + 1]; ++i)
        wide ? composite_tile<true>(in, ctx, out, i, &scratch) : composite_tile<false>(in, ctx, out, i, &scratch);
  }
  return enough;
}

}  // namespace TG_VARIANT
