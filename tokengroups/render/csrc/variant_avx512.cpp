#define TG_VARIANT tg_avx512
#include "simd_avx512.h"
#include "variant.h"
