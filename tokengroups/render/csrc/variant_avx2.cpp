#define TG_VARIANT tg_avx2
#include "simd_avx2.h"
#include "variant.h"
