// Declarations of the variants' entry points, for the dispatcher.
#pragma once
#include "interface.h"

#define TG_DECLARE(name)                                                                          \
  namespace name {                                                                                \
  int forward(const TgScene*, const TgImages*, void** context, int64_t* culprit);                 \
  int backward(const TgScene*, const TgImages*, const TgImages*, const void*, const TgGradients*); \
  void release(void* context);                                                                    \
  }
TG_DECLARE(tg_portable)
TG_DECLARE(tg_avx2)
TG_DECLARE(tg_avx512)
#undef TG_DECLARE
