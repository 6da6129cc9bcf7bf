#include "math/moments.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support.h"

// The rounding, the order and the corner cases of docs/algorithm.md, "Elements", as literal values: the other tests use
// these functions themselves.

namespace mtadam {
namespace {

using test::same_bits;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSmallestNormal = 0x1p-126f;

GroupElements elements() { return {0.9f, 0.1f, 0.999f, 0.001f, 1e-8f, 0.25f, 0.125f}; }

TEST(Moments, FlushSubnormalsOnly) {
  const float below = std::nextafter(kSmallestNormal, 0.0f);
  EXPECT_TRUE(same_bits(flushed(kSmallestNormal), kSmallestNormal));
  EXPECT_TRUE(same_bits(flushed(-kSmallestNormal), -kSmallestNormal));
  EXPECT_TRUE(same_bits(flushed(below), 0.0f));
  EXPECT_TRUE(same_bits(flushed(-below), 0.0f));
  EXPECT_TRUE(same_bits(flushed(-0.0f), 0.0f));
  EXPECT_TRUE(std::isnan(flushed(kNan)));
  EXPECT_EQ(flushed(-kInfinity), -kInfinity);
}

TEST(Moments, FlushTheDecayedPartBeforeAddingTheGradientsPart) {
  GroupElements k = elements();
  k.beta1 = k.beta2 = 0.5f;
  k.rest1 = k.rest2 = 0.5f;
  // The gradient's part is subnormal, too, but it stays.
  EXPECT_TRUE(same_bits(first_moment(kSmallestNormal, 0x1p-130f, k), 0x1p-131f));
  EXPECT_TRUE(same_bits(added_to_sum(decayed_sum(kSmallestNormal, k), 0x1p-130f, k), 0x1p-131f));
  EXPECT_TRUE(same_bits(second_moment(kSmallestNormal, 0x1p-70f, k), 0x1p-141f));
  // M decays once per step, not once per term.
  EXPECT_TRUE(same_bits(added_to_sum(0x1p-127f, 0.0f, k), 0x1p-127f));
}

TEST(Moments, KeepADecayedPartThatIsTheSmallestNormal) {
  GroupElements k = elements();
  k.beta1 = k.beta2 = 0.5f;
  const float kept = 0x1p-125f, flushed = 0x1.fffffcp-126f;  // half of it is the largest subnormal
  EXPECT_TRUE(same_bits(first_moment(kept, 0, k), kSmallestNormal));
  EXPECT_TRUE(same_bits(first_moment(-kept, -0.0f, k), -kSmallestNormal));
  EXPECT_TRUE(same_bits(decayed_sum(kept, k), kSmallestNormal));
  EXPECT_TRUE(same_bits(second_moment(kept, 0, k), kSmallestNormal));
  EXPECT_TRUE(same_bits(first_moment(flushed, 0, k), 0.0f));
  EXPECT_TRUE(same_bits(decayed_sum(flushed, k), 0.0f));
  EXPECT_TRUE(same_bits(second_moment(flushed, 0, k), 0.0f));
}

TEST(Moments, ScaleTheGradientBeforeItIsSquared) {
  const GroupElements k = elements();
  // 1e20² is infinite in float32.
  EXPECT_TRUE(std::isfinite(second_moment(0, 1e20f, k)));
  for (const float g : {1e20f, 3.3f, 1e-19f}) {
    EXPECT_TRUE(same_bits(second_moment(2, g, k), 0.999f * 2 + (0.001f * g) * g)) << g;
  }
}

TEST(Moments, AddCoupledDecayToTheScaledGradient) {
  const GroupElements k = elements();
  EXPECT_EQ((balanced_gradient<true>(3, 8, -2, k)), -6.0f + 0.25f * 8);
  EXPECT_EQ((balanced_gradient<false>(3, 8, -2, k)), -6.0f);
  EXPECT_TRUE(same_bits(balanced_gradient<false>(-0.0f, kNan, 2, k), -0.0f)) << "θ has no part without decay";
}

TEST(Moments, KeepTheSecondOfTwoEqualOrUnorderedValues) {
  EXPECT_EQ(larger(2, 1), 2);
  EXPECT_EQ(larger(1, 2), 2);
  EXPECT_TRUE(same_bits(larger(0.0f, -0.0f), -0.0f));
  EXPECT_TRUE(same_bits(larger(-0.0f, 0.0f), 0.0f));
  EXPECT_EQ(larger(kNan, 1), 1);
  EXPECT_TRUE(std::isnan(larger(1, kNan)));
}

TEST(Moments, CorrectTheRootBeforeAddingEpsilon) {
  GroupElements k = elements();
  k.eps = 0.5f;
  EXPECT_EQ(denominator(4, 0.25f, k), 8.5f);
  EXPECT_TRUE(same_bits(denominator(2, 0.3f, k), std::sqrt(2.0f) / 0.3f + 0.5f));
}

TEST(Moments, DecayTheParameterInsideTheStep) {
  const GroupElements k = elements();
  EXPECT_EQ((moved<false>(8, 1.5f, k)), 6.5f);
  EXPECT_EQ((moved<true>(8, 1.5f, k)), 5.5f);
  // 1 − 2⁻²⁵ is a tie and rounds to 1. So weak a decay, added to the step, tips the rounding; as a factor 1 − d, which
  // is 1 in float32, it would do nothing.
  GroupElements weak = elements();
  weak.decoupled = 1e-9f;
  EXPECT_EQ((moved<false>(1, 0x1p-25f, weak)), 1.0f);
  EXPECT_EQ((moved<true>(1, 0x1p-25f, weak)), 1.0f - 0x1p-24f);
}

TEST(Moments, KeepTheSignOfAZeroStep) {
  EXPECT_TRUE(same_bits(step_part(-0.0f, 2), -0.0f));
  EXPECT_TRUE(same_bits(adam_step<true>(-0.0f, 2, 3), -0.0f));
  EXPECT_TRUE(same_bits(moved<false>(-0.0f, 0.0f, elements()), -0.0f));
}

TEST(Moments, DivideTheStepByTheDenominatorAndThenByW) {
  EXPECT_TRUE(same_bits(adam_step<false>(5.3f, 0.7f, 1.9f), 5.3f / 0.7f));
  EXPECT_TRUE(same_bits(adam_step<true>(5.3f, 0.7f, 1.9f), 5.3f / 0.7f / 1.9f));
  ASSERT_FALSE(same_bits(5.3f / 0.7f / 1.9f, 5.3f / (0.7f * 1.9f))) << "these values tell the orders apart";
}

}  // namespace
}  // namespace mtadam
