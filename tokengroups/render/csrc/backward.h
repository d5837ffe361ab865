// Backward compositing, front to back. Per pixel one scalar is carried: `behind` = what the splats not yet visited
// (and the light that passes all of them) contribute to sum(image * cotangent).
#pragma once
#include "wide.h"

namespace TG_VARIANT {

struct BackwardScratch {
  Tile tile;
  WideBlock wide[2];
  Buffer<SplatGradient> gradients;  // of the tile's splats
  bool reserve(const TgScene& in, const Context& ctx) {
    bool enough = tile.reserve(in, ctx) && gradients.resize(ctx.most_entries);
    for (int k = 0; k < 2; ++k)
      if (in.wide[k].dim) enough = enough && wide[k].reserve(ctx.most_entries, in.wide[k].dim);
    return enough;
  }
};

struct Cotangent {
  F16 transmittance, behind, color[3], depth;
};

// Reads the block's cotangents. Expected depth D = S / A of depth sum S and alpha A gives dL/dS = v / A and adds
// -v D / A to dL/dA.
static inline Cotangent read_block(const TgScene& in, const TgImages& images, const TgImages& v, const Block& b,
                                   WideBlock* wide) {
  float behind[16] = {}, color[3][16] = {}, depth[16] = {};
  for (int l = 0; l < 16; ++l) {
    const int64_t pixel = b.pixel[l];
    if (pixel < 0) continue;
    const float alpha = images.alphas[pixel];
    float v_alpha = v.alphas[pixel];
    if (alpha > 0.f) {
      depth[l] = v.depths[pixel] / alpha;
      v_alpha -= depth[l] * images.depths[pixel];
      behind[l] += depth[l] * images.depths[pixel] * alpha;
    }
    for (int k = 0; k < in.channels; ++k) {
      color[k][l] = v.colors[pixel * in.channels + k];
      behind[l] += color[k][l] * images.colors[pixel * in.channels + k];
    }
    behind[l] -= (1.f - alpha) * v_alpha;
  }
  for (int k = 0; k < 2; ++k) {
    if (!in.wide[k].dim) continue;
    wide[k].open();
    wide_open_backward(&wide[k], in.wide[k].dim, b, images.wide[k], v.wide[k], behind);
  }
  return {load(b.inside), load(behind), {load(color[0]), load(color[1]), load(color[2])}, load(depth)};
}

template <bool kWide>
static inline bool differentiate_list(const TgScene& in, BackwardScratch* scratch, const Block& b, int visits,
                                      Cotangent* c) {
  Tile& t = scratch->tile;
  Cotangent s = *c;
  bool finished = false;
  for (int i = 0; i < visits; ++i) {
    const int entry = t.list[i];
    const Splat& splat = t.local[entry];
    F16 dx, dy;
    const F16 free = splat_alpha(splat, b, &dx, &dy), alpha = min(free, set1(kMaxAlpha));
    F16 weight = s.transmittance * alpha;
    const F16 next = s.transmittance - weight;
    const M16 stop = next <= set1(kMinTransmittance);
    weight = drop(stop, weight);
    s.transmittance = drop(stop, next);
    F16 value = fma(set1(splat.color[0]), s.color[0], set1(splat.color[1]) * s.color[1]);
    value = fma(set1(splat.color[2]), s.color[2], value);
    value = fma(set1(splat.depth), s.depth, value);
    if (kWide) {
      for (int k = 0; k < 2; ++k) {
        if (!in.wide[k].dim) continue;
        const int slot = splat.slot[k];
        if (scratch->wide[k].touch(slot)) {
          const float* values = wide_values(in, in.wide[k], t.image);
          wide_dot(&scratch->wide[k], slot, values + t.rows[k].row_of_slot[slot] * in.wide[k].dim, in.wide[k].dim);
        }
        value = value + load(&scratch->wide[k].dots[16 * slot]);
        scratch->wide[k].add(slot, weight);
      }
    }
    const F16 own = weight * value;
    s.behind = s.behind - own;
    // dL/d(log alpha) = weight value - alpha / (1 - alpha) behind; none where alpha is clamped.
    F16 g = fnma(alpha * s.behind, reciprocal(set1(1.f) - alpha), own);
    g = drop(stop, keep(free <= set1(kMaxAlpha), g));
    const F16 gx = g * dx, gy = g * dy;
    const F16 sums[10] = {g, gx, gy, gx * dx, gx * dy, gy * dy, weight * s.color[0], weight * s.color[1],
                          weight * s.color[2], weight * s.depth};
    add_lane_sums(sums, (float*)&scratch->gradients[entry]);
    if (all(stop)) {
      finished = true;
      break;
    }
  }
  *c = s;
  return finished;
}

template <bool kWide>
static void differentiate_tile(const TgScene& in, const Context& ctx, const TgImages& images, const TgImages& v,
                               int64_t index, BackwardScratch* scratch, SplatGradient* of_image, float* const* wide) {
  Tile& t = scratch->tile;
  t.open(in, ctx, index);
  for (int number = 0; number < 16; ++number) {
    Block b;
    if (!open_block(in, t, number, &b)) continue;
    Cotangent c = read_block(in, images, v, b, scratch->wide);
    for (int first = 0; first < t.count; first += kChunk) {
      const int n = smaller(kChunk, t.count - first);
      if (first + n > t.prepared) {
        memset((void*)&scratch->gradients[t.prepared], 0, sizeof(SplatGradient) * (first + n - t.prepared));
        prepare(&t, in, first + n);
      }
      const int visits = select_bit(t.masks.data + first, n, number, first, t.list);
      if (differentiate_list<kWide>(in, scratch, b, visits, &c)) break;
    }
    for (int k = 0; k < 2; ++k) {
      if (!in.wide[k].dim) continue;
      const int64_t offset = wide_values(in, in.wide[k], t.image) - in.wide[k].values;
      wide_backward(scratch->wide[k], t.rows[k], in.wide[k].dim, wide[k] + offset);
    }
  }
  for (int i = 0; i < t.prepared; ++i) {
    float *to = (float*)&of_image[t.entries[i]], *from = (float*)&scratch->gradients[i];
    for (int k = 0; k < 12; ++k) to[k] += from[k];
  }
}

// Where each thread keeps the gradients of the images whose tiles it works on.
struct Shares {
  int threads = 0;
  Buffer<int64_t> bounds;         // tiles of each thread
  Buffer<int64_t> first;          // [threads, I]: place in `gradients` of the image's splats, -1 if untouched
  Buffer<SplatGradient> gradients;
  Buffer<float> wide[2];          // [threads - 1, values]: thread 0 writes into the result

  bool reserve(const TgScene& in, const Context& ctx) {
    const int64_t images = in.scenes * in.cameras;
    threads = (int)larger((int64_t)1, smaller(in.threads, images * ctx.tiles()));
    if (!bounds.resize(threads + 1) || !first.resize(threads * images)) return false;
    split_tiles(in, ctx, threads, bounds.data);
    int64_t total = 0;
    for (int t = 0; t < threads; ++t) {
      for (int64_t i = 0; i < images; ++i) {
        const bool touched = bounds[t] < (i + 1) * ctx.tiles() && bounds[t + 1] > i * ctx.tiles();
        first[t * images + i] = touched ? total : -1;
        if (touched) total += ctx.visible[i];
      }
    }
    bool enough = gradients.resize(total);
    for (int k = 0; k < 2; ++k)
      if (in.wide[k].dim) enough = enough && wide[k].resize((threads - 1) * wide_size(in, k));
    return enough;
  }
  static int64_t wide_size(const TgScene& in, int k) {
    return in.scenes * (in.wide[k].per_camera ? in.cameras : 1) * in.wide[k].rows * in.wide[k].dim;
  }
};

static bool differentiate(const TgScene& in, const Context& ctx, const TgImages& images, const TgImages& v,
                          const TgGradients& out, Shares* shares) {
  const int64_t count = in.scenes * in.cameras;
  const bool is_wide = in.wide[0].dim || in.wide[1].dim;
  bool enough = true;
#pragma omp parallel num_threads(shares->threads) reduction(&& : enough)
  {
    BackwardScratch scratch;
    enough = scratch.reserve(in, ctx);
#pragma omp for schedule(static, 1)
    for (int t = 0; t < shares->threads; ++t) {
      if (!enough) continue;
      const int64_t* first = shares->first.data + t * count;
      float* wide[2];
      for (int k = 0; k < 2; ++k) {
        wide[k] = t ? shares->wide[k].data + (t - 1) * Shares::wide_size(in, k) : out.wide[k];
        if (in.wide[k].dim) memset(wide[k], 0, sizeof(float) * Shares::wide_size(in, k));
      }
      for (int64_t i = 0; i < count; ++i)
        if (first[i] >= 0) memset((void*)&shares->gradients[first[i]], 0, sizeof(SplatGradient) * ctx.visible[i]);
      for (int64_t i = shares->bounds[t]; i < shares->bounds[t + 1]; ++i) {
        SplatGradient* of_image = shares->gradients.data + first[i / ctx.tiles()];
        is_wide ? differentiate_tile<true>(in, ctx, images, v, i, &scratch, of_image, wide)
                : differentiate_tile<false>(in, ctx, images, v, i, &scratch, of_image, wide);
      }
    }
  }
  return enough;
}

// Adds the threads' shares of the wide gradients, in the order of the threads.
static void add_wide_shares(const TgScene& in, const Shares& shares, const TgGradients& out) {
  for (int k = 0; k < 2; ++k) {
    const int64_t size = in.wide[k].dim ? Shares::wide_size(in, k) : 0;
#pragma omp parallel for schedule(static) num_threads(shares.threads)
    for (int64_t i = 0; i < size; ++i)
      for (int t = 1; t < shares.threads; ++t) out.wide[k][i] += shares.wide[k][(t - 1) * size + i];
  }
}

}  // namespace TG_VARIANT
