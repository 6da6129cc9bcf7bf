#pragma once

#include <math.h>  // not <cmath>: its std::sqrt is a function with external linkage, see portable.h

#include "math/bits.h"
#include "math/portable.h"
#include "math/tables.h"

// The arithmetic of one parameter (docs/algorithm.md, steps 5 to 7 and "Elements"). The CPU and the GPU compile these
// same lines, in float32 with each operator rounded: contraction off, IEEE division and square root, no flush to zero.
// Functions take and return values; loops and addresses belong to the devices.

namespace mtadam {

/// z(y): a decaying moment becomes zero instead of subnormal, which is slow.
MTADAM_INLINE float flushed(float y) { return fabsf(y) < 0x1p-126f ? 0.0f : y; }

/// Maximum; the second where they compare equal or either is NaN.
MTADAM_INLINE float larger(float a, float b) { return a > b ? a : b; }

/// ĝ, step 5. Coupled decay is a compile-time choice because adding 0·θ can change the result (−0, NaN, infinity).
template <bool kCoupled>
MTADAM_INLINE float balanced_gradient(float g, float theta, float f, const GroupElements& k) {
  const float scaled = f * g;
  if constexpr (kCoupled) return scaled + k.coupled * theta;
  return scaled;
}

/// NonFinite::kSkipElement: whether the moments of an element stay as they are, since f·g is not finite or too large.
/// Compares bits, among which infinity and NaN are the largest: compilers vectorise no branch around arithmetic that
/// may trap.
MTADAM_INLINE bool element_rests(float g, float f) { return (bits_of(f * g) & 0x7fffffffu) > bits_of(kLargestElement); }

/// `before` if the element rests, otherwise `after`. Selects bits, for the same reason.
MTADAM_INLINE float unless_resting(bool rests, float before, float after) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(rests);
  return float_of((bits_of(before) & mask) | (bits_of(after) & ~mask));
}

/// One term's share of G, where both moments are summed. With kSkips it is 0 where the element rests.
template <bool kSkips>
MTADAM_INLINE float gathered_share(float g, float f) {
  if constexpr (kSkips) return unless_resting(element_rests(g, f), 0.0f, f * g);
  return f * g;
}

/// G after one more term; the first term's share starts it.
template <bool kSkips>
MTADAM_INLINE float added_to_gathered(float sum, float g, float f) {
  return sum + gathered_share<kSkips>(g, f);
}

/// ĝ of all terms together, from G: coupled decay enters once.
template <bool kCoupled>
MTADAM_INLINE float decayed_gradient(float sum, float theta, const GroupElements& k) {
  if constexpr (kCoupled) return sum + k.coupled * theta;
  return sum;
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

/// q, by which step 7 moves θ, without decay: U is the sum of c·m over the terms, D the largest denominator. Division
/// by W = 1 would change no bit; the compile-time choice saves it.
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
