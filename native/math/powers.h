#pragma once

#include <math.h>

#include <cstdint>

#include "math/bits.h"
#include "math/portable.h"

// Logarithm and power for the scalars of a step. The results of math libraries differ in their last bits between
// machines, and between CPU and GPU. These functions use only + − × ÷, conversions and bit operations, and give the
// same bits everywhere. The tests bound their errors by 1e-15.

namespace mtadam {
namespace powers {

constexpr int kFractionBits = 52;
constexpr int kBias = 1023;
constexpr std::uint64_t kExponentMask = 0x7ff;
constexpr std::uint64_t kFractionMask = (std::uint64_t{1} << kFractionBits) - 1;

/// 2^k, where that is a normal number.
MTADAM_INLINE double power_of_two(int k) { return double_of(static_cast<std::uint64_t>(k + kBias) << kFractionBits); }

}  // namespace powers

/// log₂ x: −∞ for 0, ∞ for ∞, NaN for negative x and NaN.
MTADAM_INLINE double portable_log2(double x) {
  using namespace powers;
  if (!(x > 0)) return x == 0 ? -HUGE_VAL : NAN;
  if (x == HUGE_VAL) return x;
  constexpr int kSubnormalShift = 54;
  const bool subnormal = x < power_of_two(1 - kBias);
  const std::uint64_t bits = bits_of(subnormal ? x * power_of_two(kSubnormalShift) : x);
  int k = static_cast<int>(bits >> kFractionBits & kExponentMask) - kBias - (subnormal ? kSubnormalShift : 0);
  double m = double_of((bits & kFractionMask) | static_cast<std::uint64_t>(kBias) << kFractionBits);
  // x = m·2^k with m from √½ to √2, so that a value next to 1 has its logarithm from m alone, with all digits.
  constexpr double kRootOfTwo = 1.4142135623730951;
  if (m > kRootOfTwo) {
    m /= 2;
    k += 1;
  }
  // ln m = 2·artanh t = 2·(t + t³/3 + t⁵/5 + …), t = (m − 1)/(m + 1). |t| < 0.172, and the terms left out are < 1e-18.
  constexpr double kCoefficients[] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                      1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
  constexpr double kTwoOverLn2 = 2.8853900817779268;
  const double t = (m - 1) / (m + 1);
  const double square = t * t;
  double series = 0;
  for (const double coefficient : kCoefficients) series = (series + coefficient) * square;
  return k + kTwoOverLn2 * (t + t * series);
}

/// 2ˣ: 0 and ∞ beyond the range of double, NaN for NaN.
MTADAM_INLINE double portable_exp2(double x) {
  using namespace powers;
  constexpr double kBeyond = 1100;  // from here on the result is 0 or ∞; below, k fits in an int
  if (x != x) return x;
  if (x > kBeyond) return HUGE_VAL;
  if (x < -kBeyond) return 0;
  // x = k + f with |f| ≤ ½, exactly; 2^f = e^z = 1 + z + z²/2! + …, |z| < 0.347, and the terms left out are < 1e-18.
  const int k = static_cast<int>(x < 0 ? x - 0.5 : x + 0.5);
  constexpr double kLn2 = 0.69314718055994531;
  constexpr double kCoefficients[] = {
      1.0 / 87178291200, 1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
      1.0 / 5040,        1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       1.0 / 2,      1.0};
  const double z = (x - k) * kLn2;
  double series = 0;
  for (const double coefficient : kCoefficients) series = (series + coefficient) * z;
  // In two factors, since 2^k need not be a normal number. Only the second product can round.
  const int half = k / 2;
  return (1 + series) * power_of_two(half) * power_of_two(k - half);
}

}  // namespace mtadam
