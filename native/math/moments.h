#pragma once

#include <math.h>  // not <cmath>: std::sqrt is an inline function, which portable.h explains away

#include "math/portable.h"
#include "math/tables.h"

// The arithmetic of one parameter (docs/algorithm.md, steps 5 to 7 and "Elements"). The CPU and the GPU run these very
// lines, in float32, each operator rounded: compile with contraction off, IEEE division and square root, and no
// flush to zero. Everything is a value; loops and addresses belong to the devices.

namespace mtadam {

/// z(y): a moment decays to zero instead of staying subnormal, and slow, for ever.
MTADAM_INLINE float flushed(float y) { return fabsf(y) < 0x1p-126f ? 0.0f : y; }

/// Maximum; the second where they compare equal or either is NaN.
MTADAM_INLINE float larger(float a, float b) { return a > b ? a : b; }

/// ĝ, step 5. Coupled decay is a compile-time choice because adding 0·θ is not nothing (−0, NaN, infinity).
template <bool kCoupled>
MTADAM_INLINE float balanced_gradient(float g, float theta, float f, const GroupElements& k) {
  const float scaled = f * g;
  if constexpr (kCoupled) return scaled + k.coupled * theta;
  return scaled;
}

/// m, step 6.
MTADAM_INLINE float first_moment(float m, float gradient, const GroupElements& k) {
  return flushed(k.beta1 * m) + k.rest1 * gradient;
}

/// M before the first term of a step adds its share ("One first moment is enough").
MTADAM_INLINE float decayed_sum(float sum, const GroupElements& k) { return flushed(k.beta1 * sum); }

/// M after one more term.
MTADAM_INLINE float added_to_sum(float sum, float gradient, const GroupElements& k) { return sum + k.rest1 * gradient; }

/// v, step 6.
MTADAM_INLINE float second_moment(float v, float gradient, const GroupElements& k) {
  return flushed(k.beta2 * v) + (k.rest2 * gradient) * gradient;
}

/// √v/√(1 − P₂) + ε, one term's part of the maximum in step 7 (with amsgrad, of x).
MTADAM_INLINE float denominator(float v, float b, const GroupElements& k) { return sqrtf(v) / b + k.eps; }

/// c·m, one term's part of the sum U in step 7. U starts as the first part, not as zero: −0 stays −0.
MTADAM_INLINE float step_part(float m, float c) { return c * m; }

/// q, what step 7 moves θ by before decay: U is the sum of c·m over the terms, D the largest denominator. To divide by
/// W = 1 would change no bit: it is a compile-time choice to save the division.
template <bool kDivided>
MTADAM_INLINE float adam_step(float u, float d, float w) {
  const float q = u / d;
  if constexpr (kDivided) return q / w;
  return q;
}

/// θ after step 7.
template <bool kDecoupled>
MTADAM_INLINE float moved(float theta, float q, const GroupElements& k) {
  if constexpr (kDecoupled) return theta - (k.decoupled * theta + q);
  return theta - q;
}

}  // namespace mtadam
