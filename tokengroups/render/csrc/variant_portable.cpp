#define TG_VARIANT tg_portable
#include "simd_portable.h"
#include "variant.h"
