#include "math/powers.h"

#include <gtest/gtest.h>

#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>

#include "support.h"

// Compares with long double of the C library, which is at least as precise as double.

namespace mtadam {
namespace {

using test::Random;
using test::same_bits;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kTolerance = 1e-15;

void expect_log2(double x) {
  const long double expected = std::log2(static_cast<long double>(x));
  const long double error = std::fabs(portable_log2(x) - expected);
  ASSERT_LE(error, kTolerance * std::fabs(expected)) << std::hexfloat << x;
}

void expect_exp2(double x) {
  const long double expected = std::exp2(static_cast<long double>(x));
  const long double error = std::fabs(portable_exp2(x) - expected);
  // Among subnormals, half of the smallest one is the best that a double can do.
  ASSERT_LE(error, kTolerance * expected + 0.5L * DBL_TRUE_MIN) << std::hexfloat << x;
}

TEST(Powers, GiveLogarithmsOfAllMagnitudes) {
  Random random(91);
  for (int exponent = -1074; exponent < 1024; ++exponent) {
    expect_log2(std::ldexp(1.0, exponent));
    for (int k = 0; k < 200; ++k) expect_log2(std::ldexp(random.between(1, 2), exponent));
  }
  expect_log2(DBL_MAX);
  expect_log2(DBL_MIN);
  expect_log2(DBL_TRUE_MIN);
}

// The logarithm approaches 0 there and must keep all its digits.
TEST(Powers, GiveLogarithmsNearOne) {
  Random random(92);
  for (int exponent = -52; exponent < -1; ++exponent) {
    for (int k = 0; k < 200; ++k) {
      const double step = std::ldexp(random.between(1, 2), exponent);
      expect_log2(1 + step);
      expect_log2(1 - step);
    }
  }
  EXPECT_TRUE(same_bits(portable_log2(1), 0.0));
  for (const double root : {std::sqrt(0.5), std::sqrt(2.0)}) {
    expect_log2(std::nextafter(root, 0));
    expect_log2(root);
    expect_log2(std::nextafter(root, 2));
  }
}

TEST(Powers, GivePowersOfAllMagnitudes) {
  Random random(93);
  for (int whole = -1080; whole < 1030; ++whole) {
    if (whole < 1024) expect_exp2(whole);
    for (int k = 0; k < 200; ++k) {
      const double x = whole + random.between(0, 1);
      if (x < 1024) expect_exp2(x);
    }
  }
  for (int exponent = -60; exponent < 0; ++exponent) {
    for (int k = 0; k < 50; ++k) {
      const double x = std::ldexp(random.between(1, 2), exponent);
      expect_exp2(x);
      expect_exp2(-x);
    }
  }
}

TEST(Powers, AreExactForPowersOfTwo) {
  for (int k = -1074; k < 1024; ++k) {
    ASSERT_TRUE(same_bits(portable_log2(std::ldexp(1.0, k)), static_cast<double>(k)));
    ASSERT_TRUE(same_bits(portable_exp2(k), std::ldexp(1.0, k)));
  }
}

TEST(Powers, OverflowAndUnderflow) {
  EXPECT_EQ(portable_exp2(std::nextafter(1024.0, 0)), std::exp2(std::nextafter(1024.0, 0)));
  for (const double x : {1024.0, 1100.0, 1101.0, 1e300, kInfinity}) EXPECT_EQ(portable_exp2(x), kInfinity) << x;
  for (const double x : {-1075.0, -1100.0, -1101.0, -1e300, -kInfinity}) {
    EXPECT_TRUE(same_bits(portable_exp2(x), 0.0)) << x;
  }
  EXPECT_TRUE(same_bits(portable_exp2(std::nextafter(-1075.0, 0)), DBL_TRUE_MIN));
}

TEST(Powers, TakeZeroInfinityAndNaN) {
  EXPECT_EQ(portable_log2(kInfinity), kInfinity);
  EXPECT_EQ(portable_log2(0.0), -kInfinity);
  EXPECT_EQ(portable_log2(-0.0), -kInfinity);
  EXPECT_TRUE(std::isnan(portable_log2(-1)));
  EXPECT_TRUE(std::isnan(portable_log2(-kInfinity)));
  EXPECT_TRUE(std::isnan(portable_log2(kNan)));
  EXPECT_TRUE(std::isnan(portable_exp2(kNan)));
  EXPECT_TRUE(same_bits(portable_exp2(-0.0), 1.0));
}

// Every compiler and device must give exactly these bits; a tolerance would not notice the last one.
TEST(Powers, GiveTheseBits) {
  std::uint64_t digest = 0;
  Random random(94);
  for (int k = 0; k < 10'000; ++k) {
    // Drawn first: compilers evaluate arguments in any order.
    const int exponent = static_cast<int>(random.below(2098)) - 1074;
    const double x = std::ldexp(random.between(1, 2), exponent);
    for (const double value : {portable_log2(x), portable_exp2(random.between(-1075, 1024))}) {
      digest = digest * 0x9e3779b97f4a7c15 + std::bit_cast<std::uint64_t>(value);
    }
  }
  EXPECT_EQ(digest, 0x84e21795b0561cee);
}

}  // namespace
}  // namespace mtadam
