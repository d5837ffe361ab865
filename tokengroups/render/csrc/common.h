// Memory and the projected state that forward and backward share.
#pragma once
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "interface.h"
#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace TG_VARIANT {

static const float kNear = 0.01f;
static const float kBlur = 0.3f;  // added to the diagonal of the 2D covariance
static const float kMaxAlpha = 0.999f;
static const float kMinTransmittance = 1e-4f;
static const float kLog2MinAlpha = -7.994353436858858f;  // log2(1 / 255)
static const float kLog2E = 1.4426950408889634f;
static const int kTile = 16;  // pixels; a tile is 4 x 4 blocks of 4 x 4 pixels
static const int kAhead = 8;    // how far scattered reads are prefetched
static const int kBatch = 32;   // visits of a block that go through the kernels' phases together
static const int kChunk = 128;  // Gaussians of a tile that are prepared at once

template <typename T>
static inline T smaller(T a, T b) { return a < b ? a : b; }
template <typename T>
static inline T larger(T a, T b) { return a > b ? a : b; }

// Uninitialised memory, aligned to cache lines; throws nothing: `data` is null when there is none.
template <typename T>
struct Buffer {
  T* data = nullptr;
  int64_t size = 0;
  Buffer() {}
  ~Buffer() { free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  bool resize(int64_t count) {
    if (count <= size) return true;
    free(data);
    size = (count + 15) / 16 * 16;
    data = (T*)aligned_alloc(64, ((size_t)size * sizeof(T) + 63) / 64 * 64);
    if (!data) size = 0;
    return data != nullptr;
  }
  T& operator[](int64_t i) { return data[i]; }
  const T& operator[](int64_t i) const { return data[i]; }
};

// While it lives, this thread's denormal numbers are zero: transmittances fall through them, and they are slow on x86.
struct NoDenormals {
#ifdef __SSE__
  unsigned saved = _mm_getcsr();
  NoDenormals() { _mm_setcsr(saved | 0x8040); }
  ~NoDenormals() { _mm_setcsr(saved); }
#else
  ~NoDenormals() {}
#endif
};

// Asks for huge pages for a large array that is about to be written for the first time: faulting in 4 KiB pages costs
// more than computing what goes into them. A hint, ignored where it means nothing.
static inline void expect_writes(void* data, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const size_t huge = (size_t)1 << 21, begin = ((size_t)data + huge - 1) / huge * huge, end = (size_t)data + bytes;
  if (data && end >= begin + huge) madvise((void*)begin, (end - begin) / huge * huge, MADV_HUGEPAGE);
#endif
}

// One visible Gaussian in one image. log2 of its alpha at offset (x, y) from the centre is
// log_opacity - (ux x + uy y)^2 - (vy y)^2: the Cholesky factor of the conic, exact for needles too.
struct alignas(64) Splat {
  float x, y, ux, uy, vy, log_opacity;
  float color[3], depth;
  float extent_x, extent_y;  // half sizes of the box where alpha >= 1/255
  int32_t gaussian;
  int32_t slot[2];  // of the wide rows; filled per tile
  float unused;
};

// Sums over pixels of g = dL/d(log alpha) times {1, x, y, x^2, xy, y^2} and of weight times the cotangents of colour
// and depth: everything that the projection's backward pass needs about a splat.
struct alignas(64) SplatGradient {
  float g, gx, gy, gxx, gxy, gyy, color[3], depth;
  float unused[6];
};

struct Camera;  // projection.h

struct Context {
  Buffer<Camera> cameras;          // [I]
  Buffer<float> log_opacities;     // [B, N]: log2
  Buffer<Splat> splats;            // [I, N]: the first `visible` of each image, in the order of the Gaussians
  Buffer<int32_t> rank;            // [I, N]: place of a Gaussian among the splats of an image, -1 if invisible
  Buffer<int32_t> visible;         // [I]
  Buffer<int64_t> tile_start;      // [I, tiles + 1]: into entries
  Buffer<int32_t> entries;         // splat numbers, tile by tile, sorted by depth
  Buffer<uint16_t> masks;          // blocks that each entry touches; as far as `looked_at`
  Buffer<int32_t> looked_at;       // [I, tiles]: entries that the forward pass needed
  int tiles_x = 0, tiles_y = 0;
  int64_t most_entries = 0;        // of a tile
  int64_t tiles() const { return (int64_t)tiles_x * tiles_y; }
};

}  // namespace TG_VARIANT
