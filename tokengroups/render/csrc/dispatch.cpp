// Chooses the variant that a call asks for; the caller asks tg_supports first.
#include "variants.h"

extern "C" {

int tg_supports(int variant) {
#ifdef TG_X86
  __builtin_cpu_init();
  if (variant == TG_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (variant == TG_AVX512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#endif
  return variant == TG_PORTABLE;
}

int tg_forward(int variant, const TgScene* scene, const TgImages* images, void** context, int64_t* culprit) {
  if (!tg_supports(variant)) return TG_BAD_VARIANT;
#ifdef TG_X86
  if (variant == TG_AVX512) return tg_avx512::forward(scene, images, context, culprit);
  if (variant == TG_AVX2) return tg_avx2::forward(scene, images, context, culprit);
#endif
  return tg_portable::forward(scene, images, context, culprit);
}

int tg_backward(int variant, const TgScene* scene, const TgImages* images, const TgImages* cotangents,
                const void* context, const TgGradients* gradients) {
  if (!tg_supports(variant)) return TG_BAD_VARIANT;
#ifdef TG_X86
  if (variant == TG_AVX512) return tg_avx512::backward(scene, images, cotangents, context, gradients);
  if (variant == TG_AVX2) return tg_avx2::backward(scene, images, cotangents, context, gradients);
#endif
  return tg_portable::backward(scene, images, cotangents, context, gradients);
}

void tg_release(int variant, void* context) {
#ifdef TG_X86
  if (variant == TG_AVX512) return tg_avx512::release(context);
  if (variant == TG_AVX2) return tg_avx2::release(context);
#endif
  tg_portable::release(context);
}
}
