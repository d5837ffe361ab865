// How fast this machine can go: the arithmetic of one (splat, pixel) pair, forward and backward with three channels, on
// registers only, every lane useful. No lists, no loads of splats, no sums over pixels. Compiled by render.py for each
// instruction set; prints pairs per second, forward and backward.
#include <stdio.h>
#include <time.h>

#ifdef TG_AVX512
#include "simd_avx512.h"
#elif defined(TG_AVX2)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

using namespace TG_VARIANT;

static const long kPairs = 1l << 26;
static volatile float one_thousandth = 1e-3f, tiny = 1e-9f;  // values that the compiler cannot know

static double now() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

struct Pair {
  F dx, dy, step, ux, uy, vy, log_opacity;
  F alpha() {
    const F magic = set1(12582912.f), u = fma(uy, dy, ux * dx), v = vy * dy;
    const F p = fnma(v, v, fnma(u, u, log_opacity)), shifted = p + magic, f = p - (shifted - magic);
    dx = dx + step, dy = dy - step;
    F e = fma(f, set1(0.00132764f), set1(0.00967554f));
    e = fma(f, e, set1(0.0555071f));
    e = fma(f, e, set1(0.240221f));
    e = fma(f, e, set1(0.693147f));
    e = fma(f, e, set1(1.f));
    return scale_by_power(p >= set1(-7.99f), e, shifted);
  }
};

static Pair make_pair() {
  const F x = set1(one_thousandth);
  return {x, x, set1(tiny), set1(0.1f) + x, x, set1(0.1f), set1(-6.f)};
}

static double forward_rate(float* sink) {
  Pair pair = make_pair();
  const F floor = set1(0.5f), c0 = pair.ux, c1 = pair.vy, c2 = pair.step;
  F transmittance = set1(1.f), sum = set1(0.f), red = sum, green = sum, blue = sum;
  const double start = now();
  for (long i = 0; i < kPairs; i += kLanes) {
    const F alpha = min(pair.alpha(), set1(0.999f)), next = transmittance * (set1(1.f) - alpha);
    const F weight = keep(next > set1(1e-4f), transmittance * alpha);
    transmittance = max(next, floor);  // the work goes on for ever
    sum = sum + weight, red = fma(weight, c0, red), green = fma(weight, c1, green), blue = fma(weight, c2, blue);
  }
  const double seconds = now() - start;
  *sink = lane_sum(transmittance + sum + red + green + blue + pair.dx);
  return kPairs / seconds;
}

static double backward_rate(float* sink) {
  Pair pair = make_pair();
  const F floor = set1(0.5f), c0 = pair.ux, c1 = pair.vy, c2 = pair.step, zero = set1(0.f);
  F transmittance = set1(1.f), behind = set1(1.f), v0 = pair.dx, v1 = set1(0.2f), v2 = set1(0.3f);
  F sums[9] = {zero, zero, zero, zero, zero, zero, zero, zero, zero};
  const double start = now();
  for (long i = 0; i < kPairs; i += kLanes) {
    const F dx = pair.dx, dy = pair.dy;
    const F free = pair.alpha(), alpha = min(free, set1(0.999f)), passing = set1(1.f) - alpha;
    const F next = transmittance * passing;
    const M open = next > set1(1e-4f);
    const F weight = keep(open, transmittance * alpha);
    transmittance = max(next, floor);
    const F own = weight * fma(c0, v0, fma(c1, v1, c2 * v2));
    behind = behind - own;
    const F g = keep(open & (free <= set1(0.999f)), fnma(alpha * behind, reciprocal(passing), own));
    const F gx = g * dx, gy = g * dy;
    sums[0] = sums[0] + g, sums[1] = sums[1] + gx, sums[2] = sums[2] + gy;
    sums[3] = fma(gx, dx, sums[3]), sums[4] = fma(gx, dy, sums[4]), sums[5] = fma(gy, dy, sums[5]);
    sums[6] = fma(weight, v0, sums[6]), sums[7] = fma(weight, v1, sums[7]), sums[8] = fma(weight, v2, sums[8]);
    v0 = v0 + pair.step;
  }
  const double seconds = now() - start;
  F total = transmittance + behind;
  for (int k = 0; k < 9; ++k) total = total + sums[k];
  *sink = lane_sum(total);
  return kPairs / seconds;
}

int main() {
  float sink[2];
  double forward = 0, backward = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double f = forward_rate(sink), b = backward_rate(sink + 1);
    forward = f > forward ? f : forward, backward = b > backward ? b : backward;
  }
  printf("%g %g\n", forward, backward);
  return sink[0] + sink[1] == 0.25f;  // keeps the results alive
}
