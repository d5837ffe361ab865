// One tile on its way through a kernel: its splats, copied together, and which of its 16 blocks each can touch.
#pragma once
#include "binning.h"

namespace TG_VARIANT {

struct TileRows {  // wide rows that the tile's splats belong to
  Buffer<int32_t> row_of_slot, slot_of_row;
  Buffer<int64_t> stamp_of_row;
  int slots = 0;
};

struct Tile {
  int64_t image = 0;
  int x0 = 0, y0 = 0;  // first pixel
  const Splat* splats = nullptr;
  const int32_t* entries = nullptr;
  uint16_t* masks = nullptr;  // the blocks that each entry touches
  int count = 0, prepared = 0, known = 0;
  int64_t serial = 0;
  Buffer<Splat> local;
  int list[kChunk + 16];
  TileRows rows[2];

  bool reserve(const TgScene& in, const Context& ctx) {
    bool enough = local.resize(ctx.most_entries);
    for (int k = 0; k < 2; ++k) {
      if (!in.wide[k].dim) continue;
      enough = enough && rows[k].row_of_slot.resize(ctx.most_entries);
      if (!in.wide[k].row_of_gaussian) continue;
      enough = enough && rows[k].slot_of_row.resize(in.wide[k].rows) && rows[k].stamp_of_row.resize(in.wide[k].rows);
      if (enough) memset(rows[k].stamp_of_row.data, 0, sizeof(int64_t) * in.wide[k].rows);
    }
    return enough;
  }

  void open(const TgScene& in, const Context& ctx, int64_t index) {
    const int64_t tile = index % ctx.tiles();
    image = index / ctx.tiles();
    x0 = (int)(tile % ctx.tiles_x) * kTile, y0 = (int)(tile / ctx.tiles_x) * kTile;
    splats = ctx.splats.data + image * in.gaussians;
    const int64_t* start = ctx.tile_start.data + image * (ctx.tiles() + 1) + tile;
    entries = ctx.entries.data + start[0], masks = ctx.masks.data + start[0];
    count = (int)(start[1] - start[0]);
    prepared = 0, rows[0].slots = rows[1].slots = 0;
    ++serial;
  }
};

// (ux x + uy y)^2 + (vy y)^2: what the exponent loses at an offset from the centre.
static inline F exponent_loss(const Splat& s, F x, F y) {
  const F u = fma(set1(s.uy), y, set1(s.ux) * x), v = set1(s.vy) * y;
  return fma(u, u, v * v);
}

// Bit b: block b of the tile holds a point where alpha may reach 1/255. Lanes are blocks. The least exponent loss over
// a block's rectangle of pixel centres lies on the edge nearest the splat's centre in x or in y.
static inline unsigned touched_blocks(const Splat& s, const float* centre_x, const float* centre_y) {
  const F zero = set1(0.f), half = set1(1.5f), limit = set1(s.log_opacity - kLog2MinAlpha + 1e-3f);
  const F tilt_y = set1(-s.ux * s.uy / (s.uy * s.uy + s.vy * s.vy)), tilt_x = set1(-s.uy / s.ux);
  unsigned mask = 0;
  for (int first = 0; first < 16; first += kLanes) {
    const F x = load(centre_x + first) - set1(s.x), y = load(centre_y + first) - set1(s.y);
    const F left = x - half, right = x + half, top = y - half, bottom = y + half;
    const F edge_x = min(max(left, zero), right), edge_y = min(max(top, zero), bottom);
    const F on_x = min(max(tilt_y * edge_x, top), bottom), on_y = min(max(tilt_x * edge_y, left), right);
    const F loss = min(exponent_loss(s, edge_x, on_x), exponent_loss(s, on_y, edge_y));
    mask |= bits(loss <= limit) << first;
  }
  return mask;
}

static inline int slot_of(TileRows* rows, const TgWide& wide, int32_t gaussian, int64_t serial) {
  if (!wide.row_of_gaussian) {
    rows->row_of_slot[rows->slots] = gaussian;
    return rows->slots++;
  }
  const int64_t row = wide.row_of_gaussian[gaussian];
  if (rows->stamp_of_row[row] != serial) {
    rows->stamp_of_row[row] = serial;
    rows->slot_of_row[row] = rows->slots;
    rows->row_of_slot[rows->slots++] = (int32_t)row;
  }
  return rows->slot_of_row[row];
}

// Makes the first `upto` splats of the tile ready. Masks up to `known` are in place from an earlier pass.
static inline void prepare(Tile* t, const TgScene& in, int upto) {
  float centre_x[16], centre_y[16];
  for (int b = 0; b < 16; ++b) centre_x[b] = t->x0 + b % 4 * 4 + 2.f, centre_y[b] = t->y0 + b / 4 * 4 + 2.f;
  for (; t->prepared < upto; ++t->prepared) {
    const int i = t->prepared;
    if (i + kAhead < t->count) __builtin_prefetch(&t->splats[t->entries[i + kAhead]]);
    Splat* s = &t->local[i];
    *s = t->splats[t->entries[i]];
    if (i >= t->known) t->masks[i] = (uint16_t)touched_blocks(*s, centre_x, centre_y);
    for (int k = 0; k < 2; ++k)
      if (in.wide[k].dim) s->slot[k] = slot_of(&t->rows[k], in.wide[k], s->gaussian, t->serial);
  }
}

struct Block {
  int x0, y0;             // first pixel
  float x[16], y[16];     // pixel centres
  int64_t pixel[16];      // index among the pixels of all images; -1 outside
  float inside[16];       // 1 inside the image
};

static inline bool open_block(const TgScene& in, const Tile& t, int number, Block* b) {
  b->x0 = t.x0 + number % 4 * 4, b->y0 = t.y0 + number / 4 * 4;
  if (b->x0 >= in.width || b->y0 >= in.height) return false;
  for (int l = 0; l < 16; ++l) {
    const int x = b->x0 + l % 4, y = b->y0 + l / 4;
    const bool inside = x < in.width && y < in.height;
    b->x[l] = x + 0.5f, b->y[l] = y + 0.5f;
    b->pixel[l] = inside ? t.image * in.height * in.width + (int64_t)y * in.width + x : -1;
    b->inside[l] = inside ? 1.f : 0.f;
  }
  return true;
}

// alphas[16 i + lane]: of the splats in the list at the block's pixels, before the clamp, 0 where below 1/255. Kernels
// run in phases over short batches because a loop over visits that does everything has chains of dependent operations
// too long for the processor to overlap.
static inline void batch_alphas(const Splat* splats, const int* list, int n, const Block& b, float* alphas) {
  const F magic = set1(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  for (int first = 0; first < 16; first += kLanes) {
    const F x = load(b.x + first), y = load(b.y + first);
    for (int i = 0; i < n; ++i) {
      const Splat& s = splats[list[i]];
      const F dx = x - set1(s.x), dy = y - set1(s.y);
      const F u = fma(set1(s.uy), dy, set1(s.ux) * dx), v = set1(s.vy) * dy;
      const F p = fnma(v, v, fnma(u, u, set1(s.log_opacity)));
      const F shifted = p + magic, f = p - (shifted - magic);
      F e = fma(f, set1(0.0013276470126584172f), set1(0.009675540961325169f));
      e = fma(f, e, set1(0.05550713092088699f));
      e = fma(f, e, set1(0.24022120237350464f));
      e = fma(f, e, set1(0.6931469440460205f));
      e = fma(f, e, set1(1.0000001192092896f));
      store(alphas + 16 * i + first, scale_by_power(p >= set1(kLog2MinAlpha), e, shifted));
    }
  }
}

// Contiguous ranges of tiles with about equal work: range t is [bounds[t], bounds[t + 1]).
static void split_tiles(const TgScene& in, const Context& ctx, int threads, int64_t* bounds) {
  const int64_t images = in.scenes * in.cameras, tiles = ctx.tiles(), all = images * tiles;
  double total = 0, sum = 0;
  for (int pass = 0; pass < 2; ++pass) {
    int next = 1;
    for (int64_t i = 0; i < all; ++i) {
      const int64_t* start = ctx.tile_start.data + i / tiles * (tiles + 1) + i % tiles;
      const double work = (double)(start[1] - start[0]) + 8.0;
      if (pass == 0) {
        total += work;
      } else {
        sum += work;
        while (next < threads && sum >= total * next / threads) bounds[next++] = i + 1;
      }
    }
    while (pass == 1 && next <= threads) bounds[next++] = all;
  }
  bounds[0] = 0, bounds[threads] = all;
}

}  // namespace TG_VARIANT
