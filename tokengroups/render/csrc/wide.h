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
  Buffer<float> cotangents;  // [16, dim]
  Buffer<float> transposed;  // [dim, 16]
  int count = 0;
  int64_t serial = 0;

  bool reserve(int64_t slots, int64_t dim) {
    const bool enough = weights.resize(slots * 16) && dots.resize(slots * 16) && stamps.resize(slots) &&
                        touched.resize(slots) && cotangents.resize(16 * dim + 16) && transposed.resize(16 * dim);
    if (enough) memset(stamps.data, 0, sizeof(int64_t) * slots);
    return enough;
  }
  void open() { count = 0, ++serial; }
  // Whether this is the block's first visit to the slot.
  bool touch(int slot) {
    if (stamps[slot] == serial) return false;
    stamps[slot] = serial, touched[count++] = slot;
    store(&weights[16 * slot], set1(0.f));
    return true;
  }
  void add(int slot, F16 weight) { store(&weights[16 * slot], load(&weights[16 * slot]) + weight); }
};

static inline const float* wide_values(const TgScene& in, const TgWide& wide, int64_t image) {
  return wide.values + (wide.per_camera ? image : image / in.cameras) * wide.rows * wide.dim;
}

static inline F16 load_first(const float* p, int64_t n) {
  if (n >= 16) return load(p);
  float padded[16] = {};
  for (int i = 0; i < n; ++i) padded[i] = p[i];
  return load(padded);
}

static inline void store_first(float* p, int64_t n, F16 value) {
  if (n >= 16) return store(p, value);
  float padded[16];
  store(padded, value);
  for (int i = 0; i < n; ++i) p[i] = padded[i];
}

// images[pixel, :] = sum over touched rows of weight[row, pixel] * value[row, :]
static void wide_forward(const WideBlock& w, const TileRows& rows, const float* values, int64_t dim, const Block& b,
                         float* images) {
  for (int64_t f = 0; f < dim; f += 16) {
    const int64_t n = dim - f;
    for (int first = 0; first < 16; first += kPixelsAtOnce) {
      F16 sum[kPixelsAtOnce];
      for (int i = 0; i < kPixelsAtOnce; ++i) sum[i] = set1(0.f);
      for (int k = 0; k < w.count; ++k) {
        const int slot = w.touched[k];
        const F16 value = load_first(values + (int64_t)rows.row_of_slot[slot] * dim + f, n);
        const float* weight = &w.weights[16 * slot + first];
        for (int i = 0; i < kPixelsAtOnce; ++i) sum[i] = fma(set1(weight[i]), value, sum[i]);
      }
      for (int i = 0; i < kPixelsAtOnce; ++i)
        if (b.pixel[first + i] >= 0) store_first(images + b.pixel[first + i] * dim + f, n, sum[i]);
    }
  }
}

// Collects the block's cotangents and returns, per pixel, sum over channels of image * cotangent.
static void wide_open_backward(WideBlock* w, int64_t dim, const Block& b, const float* images,
                               const float* cotangents, float* inner) {
  for (int l = 0; l < 16; ++l) {
    float* row = &w->cotangents[l * dim];
    F16 sum = set1(0.f);
    if (b.pixel[l] < 0) {
      memset(row, 0, sizeof(float) * dim);
    } else {
      const float *image = images + b.pixel[l] * dim, *cotangent = cotangents + b.pixel[l] * dim;
      for (int64_t f = 0; f < dim; f += 16) {
        const F16 v = load_first(cotangent + f, dim - f);
        store_first(row + f, dim - f, v);
        sum = fma(v, load_first(image + f, dim - f), sum);
      }
    }
    inner[l] += lane_sum(sum);
  }
  for (int64_t f = 0; f < dim; ++f)
    for (int l = 0; l < 16; ++l) w->transposed[16 * f + l] = w->cotangents[l * dim + f];
}

// dots[slot] = value . cotangent at the block's pixels.
static void wide_dot(WideBlock* w, int slot, const float* value, int64_t dim) {
  F16 a = set1(0.f), b = a, c = a, d = a;
  const float* v = w->transposed.data;
  int64_t f = 0;
  for (; f + 4 <= dim; f += 4, v += 64) {
    a = fma(set1(value[f]), load(v), a), b = fma(set1(value[f + 1]), load(v + 16), b);
    c = fma(set1(value[f + 2]), load(v + 32), c), d = fma(set1(value[f + 3]), load(v + 48), d);
  }
  for (; f < dim; ++f, v += 16) a = fma(set1(value[f]), load(v), a);
  store(&w->dots[16 * slot], (a + b) + (c + d));
}

// gradients[row, :] += sum over pixels of weight[row, pixel] * cotangent[pixel, :]
static void wide_backward(const WideBlock& w, const TileRows& rows, int64_t dim, float* gradients) {
  for (int64_t f = 0; f < dim; f += 16) {
    const int64_t n = dim - f;
    for (int first = 0; first < 16; first += kPixelsAtOnce) {
      F16 v[kPixelsAtOnce];
      for (int i = 0; i < kPixelsAtOnce; ++i) v[i] = load(&w.cotangents[(first + i) * dim + f]);
      for (int k = 0; k < w.count; ++k) {
        const int slot = w.touched[k];
        const float* weight = &w.weights[16 * slot + first];
        float* row = gradients + (int64_t)rows.row_of_slot[slot] * dim + f;
        F16 even = load_first(row, n), odd = set1(0.f);
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
