// Wide channels: many values per row (anchor or Gaussian). A block sees few distinct rows, so it sums the compositing
// weights per row and finishes with a small matrix product [pixels x rows] [rows x channels].
#pragma once
#include "tile.h"

namespace TG_VARIANT {

struct WideBlock {
  Buffer<float> weights;     // [slots, 16]: compositing weight of each row at the block's pixels
  Buffer<float> dots;        // [slots, 16]: backward: value . cotangent
  Buffer<int64_t> stamps;    // [slots]: the block that touched the slot last
  Buffer<int32_t> touched;   // slots of this block
  Buffer<float> zeros;       // [dim]: the cotangents of a pixel outside the image
  Buffer<float> transposed;  // [dim, 16]: cotangents
  const float* cotangents[16];
  int count = 0;
  int64_t serial = 0;

  bool reserve(int64_t slots, int64_t dim) {
    const bool enough = weights.resize(slots * 16) && dots.resize(slots * 16) && stamps.resize(slots) &&
                        touched.resize(slots) && zeros.resize(dim) && transposed.resize(16 * dim);
    if (enough) memset(stamps.data, 0, sizeof(int64_t) * slots), memset(zeros.data, 0, sizeof(float) * dim);
    return enough;
  }
  void open() { count = 0, ++serial; }
  // Whether this is the block's first visit to the slot.
  bool touch(int slot) {
    if (stamps[slot] == serial) return false;
    stamps[slot] = serial, touched[count++] = slot;
    for (int l = 0; l < 16; l += kLanes) store(&weights[16 * slot + l], set1(0.f));
    return true;
  }
  void add(int slot, int lane, F weight) {
    float* to = &weights[16 * slot + lane];
    store(to, load(to) + weight);
  }
};

static inline const float* wide_values(const TgScene& in, const TgWide& wide, int64_t image) {
  return wide.values + (wide.per_camera ? image : image / in.cameras) * wide.rows * wide.dim;
}

// Sums over touched rows of weight[row, pixel] * value[row, channel], from a channel and a pixel on; past `dim`, 0.
static inline void wide_sums(const WideBlock& w, const TileRows& rows, const float* values, int64_t dim, int64_t f,
                             int first, F* sum) {
  for (int i = 0; i < kPixelsAtOnce; ++i) sum[i] = set1(0.f);
  for (int k = 0; k < w.count; ++k) {
    const int slot = w.touched[k];
    const F value = load_first(values + (int64_t)rows.row_of_slot[slot] * dim + f, dim - f);
    const float* weight = &w.weights[16 * slot + first];
    for (int i = 0; i < kPixelsAtOnce; ++i) sum[i] = fma(set1(weight[i]), value, sum[i]);
  }
}

// images[pixel, :] = these sums
static void wide_forward(const WideBlock& w, const TileRows& rows, const float* values, int64_t dim, const Block& b,
                         float* images) {
  for (int64_t f = 0; f < dim; f += kLanes) {
    for (int first = 0; first < 16; first += kPixelsAtOnce) {
      F sum[kPixelsAtOnce];
      wide_sums(w, rows, values, dim, f, first, sum);
      for (int i = 0; i < kPixelsAtOnce; ++i)
        if (b.pixel[first + i] >= 0) store_first(images + b.pixel[first + i] * dim + f, dim - f, sum[i]);
    }
  }
}

// largest[pixel] = the first channel with the largest sum, the sums being those of wide_forward.
static void wide_largest(const WideBlock& w, const TileRows& rows, const float* values, int64_t dim, const Block& b,
                         int64_t* largest) {
  alignas(64) float lanes[kLanes], best[kPixelsAtOnce][kLanes], where[kPixelsAtOnce][kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = (float)l;
  for (int first = 0; first < 16; first += kPixelsAtOnce) {
    for (int i = 0; i < kPixelsAtOnce; ++i) store(best[i], set1(-INFINITY)), store(where[i], set1(0.f));
    for (int64_t f = 0; f < dim; f += kLanes) {
      F sum[kPixelsAtOnce];
      wide_sums(w, rows, values, dim, f, first, sum);
      const F channel = set1((float)f) + load(lanes);  // exact up to 2^24
      const M inside = set1((float)dim) > channel;
      for (int i = 0; i < kPixelsAtOnce; ++i) {
        const F before = load(best[i]);
        const M larger = inside & (sum[i] > before);
        store(best[i], choose(larger, sum[i], before)), store(where[i], choose(larger, channel, load(where[i])));
      }
    }
    for (int i = 0; i < kPixelsAtOnce; ++i) {
      int top = 0;
      for (int l = 1; l < kLanes; ++l) {
        const bool equal = best[i][l] == best[i][top];
        if (equal ? where[i][l] < where[i][top] : best[i][l] > best[i][top]) top = l;
      }
      if (b.pixel[first + i] >= 0) largest[b.pixel[first + i]] = (int64_t)where[i][top];
    }
  }
}

static void transpose_cotangents(WideBlock* w, int64_t dim) {
  for (int l = 0; l < 16; l += kVisits) {
    int64_t f = 0;
    for (; f + 4 <= dim; f += 4) {
      V columns[4];
      load_columns(w->cotangents + l, f, columns);
      for (int i = 0; i < 4; ++i) vstore(&w->transposed[16 * (f + i) + l], columns[i]);
    }
    for (; f < dim; ++f)
      for (int i = l; i < l + kVisits; ++i) w->transposed[16 * f + i] = w->cotangents[i][f];
  }
}

// Adds, per pixel, the sum over channels of image * cotangent.
static void wide_open_backward(WideBlock* w, int64_t dim, const Block& b, const float* images,
                               const float* cotangents, float* inner) {
  for (int l = 0; l < 16; ++l) {
    w->cotangents[l] = b.pixel[l] < 0 ? w->zeros.data : cotangents + b.pixel[l] * dim;
    if (b.pixel[l] < 0) continue;
    const float* image = images + b.pixel[l] * dim;
    F sum = set1(0.f);
    for (int64_t f = 0; f < dim; f += kLanes)
      sum = fma(load_first(w->cotangents[l] + f, dim - f), load_first(image + f, dim - f), sum);
    inner[l] += lane_sum(sum);
  }
  transpose_cotangents(w, dim);
}

// dots[slot] = value . cotangent at the block's pixels.
static void wide_dot(WideBlock* w, int slot, const float* value, int64_t dim) {
  for (int first = 0; first < 16; first += kLanes) {
    const float* v = w->transposed.data + first;
    F a = set1(0.f), b = a, c = a, d = a;
    int64_t f = 0;
    for (; f + 4 <= dim; f += 4, v += 64) {
      a = fma(set1(value[f]), load(v), a), b = fma(set1(value[f + 1]), load(v + 16), b);
      c = fma(set1(value[f + 2]), load(v + 32), c), d = fma(set1(value[f + 3]), load(v + 48), d);
    }
    for (; f < dim; ++f, v += 16) a = fma(set1(value[f]), load(v), a);
    store(&w->dots[16 * slot + first], (a + b) + (c + d));
  }
}

// gradients[row, :] += sum over pixels of weight[row, pixel] * cotangent[pixel, :]
static void wide_backward(const WideBlock& w, const TileRows& rows, int64_t dim, float* gradients) {
  for (int64_t f = 0; f < dim; f += kLanes) {
    const int64_t n = dim - f;
    for (int first = 0; first < 16; first += kPixelsAtOnce) {
      F v[kPixelsAtOnce];
      for (int i = 0; i < kPixelsAtOnce; ++i) v[i] = load_first(w.cotangents[first + i] + f, n);
      for (int k = 0; k < w.count; ++k) {
        const int slot = w.touched[k];
        const float* weight = &w.weights[16 * slot + first];
        float* row = gradients + (int64_t)rows.row_of_slot[slot] * dim + f;
        F even = load_first(row, n), odd = set1(0.f);
        for (int i = 0; i < kPixelsAtOnce; i += 2) {
          even = fma(set1(weight[i]), v[i], even);
          odd = fma(set1(weight[i + 1]), v[i + 1], odd);
        }
        store_first(row, n, even + odd);
      }
    }
  }
}

}  // namespace TG_VARIANT
