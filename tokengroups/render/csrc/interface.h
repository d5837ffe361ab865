// The C ABI of the CPU rasteriser. Python mirrors these structs field by field (render/library.py).
// All arrays are contiguous float32 unless said otherwise. B scenes, C cameras a scene, N Gaussians a scene,
// I = B * C images, H x W pixels, D colour channels (0 to 3).
#pragma once
#include <stdint.h>

extern "C" {

// A second kind of channels, any number of them: `rows` vectors of length `dim`, shared by the Gaussians whose id is
// that row. Composited as per-block weights per row and one small matrix product.
typedef struct {
  const int64_t* row_of_gaussian;  // [N]; null: row = Gaussian
  const float* values;             // [B, rows, dim] or [B, C, rows, dim]
  int64_t rows, dim;
  int64_t per_camera;              // 1: values have a camera axis
} TgWide;

typedef struct {
  int64_t scenes, cameras, gaussians, height, width, channels;
  const float *means, *quats, *scales, *opacities;  // [B, N, 3 | 4 | 3 | -]
  const float* colors;                              // [B, N, D] or [B, C, N, D], or coefficients [B, N, S, 3]
  int64_t colors_per_camera;                        // 1: colors have a camera axis
  int64_t harmonics;                                // S = 1, 4, 9 or 16 spherical harmonics (D = 3); 0: plain colours
  const float *cam_from_world, *intrinsics;         // [B, C, 4, 4], [B, C, 3, 3]
  TgWide wide[2];                                   // unused ones have dim = 0
  int64_t threads;
} TgScene;

typedef struct {
  float *colors, *alphas, *depths;  // [I, H, W, D], [I, H, W], [I, H, W] expected depth
  float* wide[2];                   // [I, H, W, dim]
  int64_t* largest;                 // [I, H, W]: the first channel with the largest value, in place of wide[1]; or null
} TgImages;

typedef struct {
  float *means, *quats, *scales, *opacities, *colors, *wide[2];  // shapes of the inputs
  float* cam_from_world;                                         // [B, C, 4, 4] or null
} TgGradients;

enum { TG_OK = 0, TG_NOT_FINITE = 1, TG_NO_MEMORY = 2, TG_BAD_VARIANT = 3 };
enum { TG_PORTABLE = 0, TG_AVX2 = 1, TG_AVX512 = 2 };

// Whether this machine can execute the variant.
int tg_supports(int variant);
// Renders. `*context` receives what `tg_backward` needs (to be given to `tg_release`), or null if `context` is null.
// On TG_NOT_FINITE, `*culprit` is the index of the input: means, quats, scales, opacities, colors, cam_from_world,
// intrinsics, wide[0], wide[1].
int tg_forward(int variant, const TgScene*, const TgImages*, void** context, int64_t* culprit);
// Gradients of sum(images * cotangents); arrays of `gradients` are overwritten. `images` are those of tg_forward.
int tg_backward(int variant, const TgScene*, const TgImages* images, const TgImages* cotangents, const void* context,
                const TgGradients* gradients);
void tg_release(int variant, void* context);
}
