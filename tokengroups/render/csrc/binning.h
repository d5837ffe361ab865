// From Gaussians to depth-sorted lists of splats per tile.
#pragma once
#include "harmonics.h"

namespace TG_VARIANT {

struct Key {
  uint32_t depth;  // the bits of a positive float sort like the float
  int32_t index;
};

// Stable least-significant-digit radix sort, three digits of 11, 11 and 10 bits; the result is in `keys`.
static void sort_by_depth(Key* keys, Key* spare, int n) {
  static const int kShift[3] = {0, 11, 22};
  uint32_t count[3][2048] = {};
  for (int i = 0; i < n; ++i)
    for (int d = 0; d < 3; ++d) ++count[d][keys[i].depth >> kShift[d] & 2047];
  for (int d = 0; d < 3; ++d) {
    uint32_t sum = 0;
    for (int b = 0; b < 2048; ++b) {
      const uint32_t c = count[d][b];
      count[d][b] = sum, sum += c;
    }
    for (int i = 0; i < n; ++i) spare[count[d][keys[i].depth >> kShift[d] & 2047]++] = keys[i];
    Key* swap = keys;
    keys = spare, spare = swap;
  }
  memcpy(spare, keys, sizeof(Key) * n);  // an odd number of passes ended in the spare array
}

struct TileRange {
  int x0, x1, y0, y1;
};

// Tiles that hold a pixel centre inside the splat's box.
static inline TileRange tile_range(const Splat& s, int tiles_x, int tiles_y) {
  const float inverse = 1.f / kTile;
  TileRange r;
  r.x0 = (int)floorf(larger(0.f, (s.x - s.extent_x - 0.5f) * inverse));
  r.y0 = (int)floorf(larger(0.f, (s.y - s.extent_y - 0.5f) * inverse));
  r.x1 = (int)smaller((float)tiles_x, floorf((s.x + s.extent_x - 0.5f) * inverse) + 1.f);
  r.y1 = (int)smaller((float)tiles_y, floorf((s.y + s.extent_y - 0.5f) * inverse) + 1.f);
  return r;
}

struct BinningScratch {
  Buffer<Key> keys, spare;
};

// Colours of up to kLanes Gaussians of the image's scene, from Gaussian n on.
static inline void splat_colors(const TgScene& in, const Camera& camera, const F* mean, int64_t image, int64_t n,
                                int count, float (*colors)[kLanes]) {
  const int64_t scene = image / in.cameras, row = (in.colors_per_camera ? image : scene) * in.gaussians + n;
  F color[3] = {set1(0.f), set1(0.f), set1(0.f)};
  if (in.harmonics) {
    F basis[kMaxHarmonics], sh[kMaxHarmonics][3];
    const int s = (int)in.harmonics;
    load_harmonics(in.colors + row * 3 * s, s, count, sh);
    harmonics(s, direction_to(camera, mean), basis);
    harmonic_colors(s, basis, sh, color);
    for (int k = 0; k < 3; ++k) color[k] = max(color[k], set1(0.f));
  } else {
    const int d = (int)in.channels;
    for (int k = 0; k < d; ++k) color[k] = load_column(in.colors + row * d, d, k, count);
  }
  for (int k = 0; k < 3; ++k) store(colors[k], color[k]);
}

static inline void count_tiles(const Splat& s, const Context& ctx, int64_t* counts) {
  const TileRange r = tile_range(s, ctx.tiles_x, ctx.tiles_y);
  for (int y = r.y0; y < r.y1; ++y)
    for (int x = r.x0; x < r.x1; ++x) ++counts[(int64_t)y * ctx.tiles_x + x + 1];
}

// Projects one image's Gaussians and counts the entries of every tile (at counts[tile + 1]).
static void project_image(const TgScene& in, Context* ctx, int64_t image) {
  const int64_t n = in.gaussians, scene = image / in.cameras;
  const Camera& camera = ctx->cameras[image];
  int32_t* rank = ctx->rank.data + image * n;
  Splat* splats = ctx->splats.data + image * n;
  int64_t* counts = ctx->tile_start.data + image * (ctx->tiles() + 1);
  memset(counts, 0, sizeof(int64_t) * (ctx->tiles() + 1));
  int visible = 0;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int count = (int)smaller((int64_t)kLanes, n - first);
    const int64_t row = scene * n + first;
    const Shapes shapes = load_shapes(in.means + 3 * row, in.quats + 4 * row, in.scales + 3 * row, count);
    const F log_opacity = load_column(ctx->log_opacities.data + row, 1, 0, count);
    const SplatLanes all = make_splats(camera, project(camera, shapes), log_opacity, (float)in.width, (float)in.height);
    float fields[12][kLanes];
    const F values[9] = {all.x, all.y, all.ux, all.uy, all.vy, log_opacity, all.extent_x, all.extent_y, all.depth};
    for (int k = 0; k < 9; ++k) store(fields[k], values[k]);
    if (all.visible) splat_colors(in, camera, shapes.mean, image, first, count, fields + 9);
    for (int i = 0; i < count; ++i) {
      rank[first + i] = -1;
      if (!(all.visible >> i & 1)) continue;
      Splat* s = &splats[visible];
      s->x = fields[0][i], s->y = fields[1][i], s->ux = fields[2][i], s->uy = fields[3][i], s->vy = fields[4][i];
      s->log_opacity = fields[5][i], s->extent_x = fields[6][i], s->extent_y = fields[7][i], s->depth = fields[8][i];
      s->gaussian = (int32_t)(first + i);
      for (int k = 0; k < 3; ++k) s->color[k] = fields[9 + k][i];
      rank[first + i] = visible++;
      count_tiles(*s, *ctx, counts);
    }
  }
  ctx->visible[image] = visible;
}

// Fills the tiles' lists, by depth. tile_start[tile + 1] holds the place of the tile's next entry while filling, so that
// at the end tile_start[tile] .. tile_start[tile + 1] is the tile's range.
static bool fill_tiles(const TgScene& in, Context* ctx, int64_t image, BinningScratch* scratch) {
  int64_t* next = ctx->tile_start.data + image * (ctx->tiles() + 1) + 1;
  const Splat* splats = ctx->splats.data + image * in.gaussians;
  const int visible = ctx->visible[image];
  if (!scratch->keys.resize(visible) || !scratch->spare.resize(visible)) return false;
  for (int i = 0; i < visible; ++i) {
    memcpy(&scratch->keys[i].depth, &splats[i].depth, 4);
    scratch->keys[i].index = i;
  }
  sort_by_depth(scratch->keys.data, scratch->spare.data, visible);
  for (int i = 0; i < visible; ++i) {
    if (i + kAhead < visible) __builtin_prefetch(&splats[scratch->keys[i + kAhead].index]);
    const int index = scratch->keys[i].index;
    const TileRange r = tile_range(splats[index], ctx->tiles_x, ctx->tiles_y);
    for (int y = r.y0; y < r.y1; ++y)
      for (int x = r.x0; x < r.x1; ++x) ctx->entries[next[(int64_t)y * ctx->tiles_x + x]++] = index;
  }
  return true;
}

static bool bin(const TgScene& in, Context* ctx) {
  const int64_t images = in.scenes * in.cameras, tiles = ctx->tiles();
  const int threads = (int)smaller(in.threads, images);
  for (int64_t i = 0; i < in.scenes * in.gaussians; ++i) ctx->log_opacities[i] = log2f(in.opacities[i]);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < images; ++i) project_image(in, ctx, i);
  int64_t total = 0;
  for (int64_t i = 0; i < images; ++i) {
    int64_t* start = ctx->tile_start.data + i * (tiles + 1);
    start[0] = total;
    for (int64_t t = 1; t <= tiles; ++t) {  // each place is one ahead: see fill_tiles
      const int64_t count = start[t];
      start[t] = total, total += count;
      ctx->most_entries = larger(ctx->most_entries, count);
    }
  }
  if (!ctx->entries.resize(total) || !ctx->masks.resize(total + 16)) return false;  // read in groups of 16
  bool enough = true;
#pragma omp parallel num_threads(threads) reduction(&& : enough)
  {
    BinningScratch scratch;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < images; ++i) enough = enough && fill_tiles(in, ctx, i, &scratch);
  }
  return enough;
}

}  // namespace TG_VARIANT
