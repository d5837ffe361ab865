// From Gaussians to depth-sorted lists of splats per tile.
#pragma once
#include "projection.h"

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
  Buffer<Splat> splats;
  Buffer<Key> keys, spare;
  bool reserve(int64_t n) { return splats.resize(n) && keys.resize(n) && spare.resize(n); }
};

static inline void splat_color(const TgScene& in, int64_t image, int64_t n, float* color) {
  const int64_t row = (in.colors_per_camera ? image : image / in.cameras) * in.gaussians + n;
  for (int c = 0; c < 3; ++c) color[c] = c < in.channels ? in.colors[row * in.channels + c] : 0.f;
}

// Projects one image's Gaussians, sorts the visible ones and counts the entries of every tile (at counts[tile + 1]).
static void project_image(const TgScene& in, Context* ctx, int64_t image, BinningScratch* scratch) {
  const int64_t n = in.gaussians, scene = image / in.cameras;
  const Camera& camera = ctx->cameras[image];
  int32_t* rank = ctx->rank.data + image * n;
  int visible = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = scene * n + i;
    rank[i] = -1;
    Projection p;
    if (!in_front(camera, in.means + 3 * row, &p)) continue;
    project_shape(camera, make_shape(in.quats + 4 * row, in.scales + 3 * row).l, &p);
    Splat* s = &scratch->splats[visible];
    if (!make_splat(camera, p, in.opacities[row], (float)in.width, (float)in.height, s)) continue;
    splat_color(in, image, i, s->color);
    s->gaussian = (int32_t)i;
    memcpy(&scratch->keys[visible].depth, &s->depth, 4);
    scratch->keys[visible].index = visible;
    ++visible;
  }
  sort_by_depth(scratch->keys.data, scratch->spare.data, visible);
  ctx->visible[image] = visible;
  int64_t* counts = ctx->tile_start.data + image * (ctx->tiles() + 1);
  memset(counts, 0, sizeof(int64_t) * (ctx->tiles() + 1));
  Splat* splats = ctx->splats.data + image * n;
  for (int i = 0; i < visible; ++i) {
    const Splat& s = splats[i] = scratch->splats[scratch->keys[i].index];
    rank[s.gaussian] = i;
    const TileRange r = tile_range(s, ctx->tiles_x, ctx->tiles_y);
    for (int y = r.y0; y < r.y1; ++y)
      for (int x = r.x0; x < r.x1; ++x) ++counts[(int64_t)y * ctx->tiles_x + x + 1];
  }
}

// Fills the tiles' lists. tile_start[tile + 1] holds the place of the tile's next entry while filling, so that at the
// end tile_start[tile] .. tile_start[tile + 1] is the tile's range.
static void fill_tiles(const TgScene& in, Context* ctx, int64_t image) {
  int64_t* next = ctx->tile_start.data + image * (ctx->tiles() + 1) + 1;
  const Splat* splats = ctx->splats.data + image * in.gaussians;
  for (int i = 0; i < ctx->visible[image]; ++i) {
    const TileRange r = tile_range(splats[i], ctx->tiles_x, ctx->tiles_y);
    for (int y = r.y0; y < r.y1; ++y)
      for (int x = r.x0; x < r.x1; ++x) ctx->entries[next[(int64_t)y * ctx->tiles_x + x]++] = i;
  }
}

static bool bin(const TgScene& in, Context* ctx) {
  const int64_t images = in.scenes * in.cameras, tiles = ctx->tiles();
  const int threads = (int)smaller(in.threads, images);
  bool enough = true;
#pragma omp parallel num_threads(threads) reduction(&& : enough)
  {
    BinningScratch scratch;
    enough = scratch.reserve(in.gaussians);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < images; ++i)
      if (enough) project_image(in, ctx, i, &scratch);
  }
  if (!enough) return false;
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
  if (!ctx->entries.resize(total)) return false;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < images; ++i) fill_tiles(in, ctx, i);
  return true;
}

}  // namespace TG_VARIANT
