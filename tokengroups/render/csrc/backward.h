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

// Sums over the block's pixels of g times {1, x, y, x^2, x y, y^2}, where (x, y) is the pixel's place from the block's
// centre plus the offset.
static inline void sum_moments(const float* g, V offset_x, V offset_y, V* sums) {
  const V zero = vset1(0.f);
  V m = zero, mx = zero, my = zero, mxx = zero, mxy = zero, myy = zero;
  for (int row = 0; row < 4; ++row) {
    V v[4];
    load_columns(g + 4 * row, v);
    const V y = vset1(row - 1.5f), outer = v[0] + v[3], inner = v[1] + v[2], sum = outer + inner;
    const V sum_x = fma(v[3] - v[0], vset1(1.5f), (v[2] - v[1]) * vset1(0.5f)), sum_y = sum * y;
    m = m + sum, mx = mx + sum_x, my = my + sum_y;
    mxx = mxx + fma(outer, vset1(2.25f), inner * vset1(0.25f)), mxy = fma(sum_x, y, mxy), myy = fma(sum_y, y, myy);
  }
  sums[0] = m;
  sums[1] = fma(offset_x, m, mx), sums[2] = fma(offset_y, m, my);
  sums[3] = fma(offset_x, sums[1] + mx, mxx);
  sums[4] = fma(offset_x, sums[2], fma(offset_y, mx, mxy));
  sums[5] = fma(offset_y, sums[2] + my, myy);
}

// Sums over the block's pixels of the weights times the four cotangents.
static inline void sum_products(const float* weights, const float (&cotangents)[4][16], V* sums) {
  for (int k = 0; k < 4; ++k) sums[k] = vset1(0.f);
  for (int l = 0; l < 16; l += 4) {
    V v[4];
    load_columns(weights + l, v);
    for (int k = 0; k < 4; ++k) {
      const float* c = cotangents[k] + l;
      const V first = fma(v[1], vset1(c[1]), v[0] * vset1(c[0])), second = fma(v[3], vset1(c[3]), v[2] * vset1(c[2]));
      sums[k] = sums[k] + (first + second);
    }
  }
}

struct Cotangent {
  float transmittance[16], behind[16];
  float channels[4][16];  // colour and depth
};

// Reads the block's cotangents. Expected depth D = S / A of depth sum S and alpha A gives dL/dS = v / A and adds
// -v D / A to dL/dA.
static inline void read_block(const TgScene& in, const TgImages& images, const TgImages& v, const Block& b,
                              WideBlock* wide, Cotangent* c) {
  memset((void*)c, 0, sizeof *c);
  memcpy(c->transmittance, b.inside, sizeof b.inside);
  for (int l = 0; l < 16; ++l) {
    const int64_t pixel = b.pixel[l];
    if (pixel < 0) continue;
    const float alpha = images.alphas[pixel];
    float v_alpha = v.alphas[pixel], behind = 0.f;
    if (alpha > 0.f) {
      const float v_depth = v.depths[pixel] / alpha;
      c->channels[3][l] = v_depth;
      v_alpha -= v_depth * images.depths[pixel];
      behind = v_depth * images.depths[pixel] * alpha;
    }
    for (int k = 0; k < in.channels; ++k) {
      const float v_color = v.colors[pixel * in.channels + k];
      c->channels[k][l] = v_color;
      behind += v_color * images.colors[pixel * in.channels + k];
    }
    c->behind[l] = behind - (1.f - alpha) * v_alpha;
  }
  for (int k = 0; k < 2; ++k) {
    if (!in.wide[k].dim) continue;
    wide[k].open();
    wide_open_backward(&wide[k], in.wide[k].dim, b, images.wide[k], v.wide[k], c->behind);
  }
}

// Sums of the batch's g and weights (rows of 16 pixels) over the pixels, added to the splats' gradients.
static inline void reduce_batch(const Splat* splats, const int* list, int n, const Block& b, const Cotangent& c,
                                const float* g, const float* weights, SplatGradient* gradients) {
  SplatGradient unused;
  for (int first = 0; first < n; first += kVisits) {
    float offset_x[kVisits], offset_y[kVisits], *rows[kVisits];
    for (int i = 0; i < kVisits; ++i) {
      const int entry = list[smaller(first + i, n - 1)];
      offset_x[i] = b.x0 + 2.f - splats[entry].x, offset_y[i] = b.y0 + 2.f - splats[entry].y;
      rows[i] = (float*)(first + i < n ? &gradients[entry] : &unused);
    }
    V sums[10];
    sum_moments(g + 16 * first, vload(offset_x), vload(offset_y), sums);
    sum_products(weights + 16 * first, c.channels, sums + 6);
    add_to_rows(sums, rows);
  }
}

// Differentiates lanes `first` to `first + kLanes` of a batch: alphas become g = dL/d(log alpha), and the compositing
// weights are stored. Returns whether all these pixels are finished.
template <bool kWide>
static inline bool differentiate_lanes(const TgScene& in, BackwardScratch* scratch, const int* list, int n, int first,
                                       float* alphas, float* weights, Cotangent* c) {
  const Tile& t = scratch->tile;
  const Splat* splats = t.local.data;
  F transmittance = load(c->transmittance + first), behind = load(c->behind + first);
  const F v_red = load(c->channels[0] + first), v_green = load(c->channels[1] + first),
          v_blue = load(c->channels[2] + first), v_depth = load(c->channels[3] + first);
  M open = transmittance > set1(kMinTransmittance);
  for (int i = 0; i < n; ++i) {
    const Splat& splat = splats[list[i]];
    float* own_alphas = alphas + 16 * i + first;
    const F free = load(own_alphas), alpha = min(free, set1(kMaxAlpha)), passing = set1(1.f) - alpha;
    const F next = transmittance * passing;
    open = next > set1(kMinTransmittance);
    const F weight = keep(open, transmittance * alpha);
    transmittance = next;
    F value = fma(set1(splat.color[0]), v_red, set1(splat.color[1]) * v_green);
    value = value + fma(set1(splat.color[2]), v_blue, set1(splat.depth) * v_depth);
    if (kWide) {
      for (int k = 0; k < 2; ++k) {
        if (!in.wide[k].dim) continue;
        const int slot = splat.slot[k];
        if (scratch->wide[k].touch(slot)) {
          const float* values = wide_values(in, in.wide[k], t.image);
          wide_dot(&scratch->wide[k], slot, values + t.rows[k].row_of_slot[slot] * in.wide[k].dim, in.wide[k].dim);
        }
        value = value + load(&scratch->wide[k].dots[16 * slot + first]);
        scratch->wide[k].add(slot, first, weight);
      }
    }
    const F own = weight * value;
    behind = behind - own;
    // dL/d(log alpha) = weight value - alpha / (1 - alpha) behind; none where alpha is clamped.
    const F g = fnma(alpha * behind, reciprocal(passing), own);
    store(own_alphas, keep(open & (free <= set1(kMaxAlpha)), g));
    store(weights + 16 * i + first, weight);
  }
  store(c->transmittance + first, transmittance), store(c->behind + first, behind);
  return none(open);
}

template <bool kWide>
static inline bool differentiate_batch(const TgScene& in, BackwardScratch* scratch, const int* list, int n,
                                       const Block& b, Cotangent* c) {
  alignas(64) float g[kBatch * 16], weights[kBatch * 16];  // g holds the alphas first
  const Splat* splats = scratch->tile.local.data;
  batch_alphas(splats, list, n, b, g);
  bool finished = true;
  for (int first = 0; first < 16; first += kLanes)
    finished = differentiate_lanes<kWide>(in, scratch, list, n, first, g, weights, c) && finished;
  reduce_batch(splats, list, n, b, *c, g, weights, scratch->gradients.data);
  return finished;
}

template <bool kWide>
static void differentiate_tile(const TgScene& in, const Context& ctx, const TgImages& images, const TgImages& v,
                               int64_t index, BackwardScratch* scratch, SplatGradient* of_image, float* const* wide) {
  Tile& t = scratch->tile;
  t.open(in, ctx, index);
  t.known = ctx.looked_at[index];
  for (int number = 0; number < 16; ++number) {
    Block b;
    if (!open_block(in, t, number, &b)) continue;
    alignas(64) Cotangent c;
    read_block(in, images, v, b, scratch->wide, &c);
    bool finished = false;
    for (int first = 0; first < t.count && !finished; first += kChunk) {
      const int n = smaller(kChunk, t.count - first);
      if (first + n > t.prepared) {
        memset((void*)&scratch->gradients[t.prepared], 0, sizeof(SplatGradient) * (first + n - t.prepared));
        prepare(&t, in, first + n);
      }
      const int visits = select_bit(t.masks + first, n, number, first, t.list);
      for (int i = 0; i < visits && !finished; i += kBatch)
        finished = differentiate_batch<kWide>(in, scratch, t.list + i, smaller(kBatch, visits - i), b, &c);
    }
    for (int k = 0; k < 2; ++k) {
      if (!in.wide[k].dim) continue;
      const int64_t offset = wide_values(in, in.wide[k], t.image) - in.wide[k].values;
      wide_backward(scratch->wide[k], t.rows[k], in.wide[k].dim, wide[k] + offset);
    }
  }
  for (int i = 0; i < t.prepared; ++i) {
    if (i + kAhead < t.prepared) __builtin_prefetch(&of_image[t.entries[i + kAhead]], 1);
    float *to = (float*)&of_image[t.entries[i]], *from = (float*)&scratch->gradients[i];
    for (int k = 0; k < 16; k += kLanes) store(to + k, load(to + k) + load(from + k));
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
    NoDenormals no_denormals;
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
