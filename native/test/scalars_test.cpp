#include "math/scalars.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support.h"

namespace mtadam {
namespace {

using test::same_bits;

TEST(Scalars, StartAtTheFirstNorm) {
  EXPECT_EQ(moving_average(false, 0, 3, 0.75, 0), 3);
  EXPECT_EQ(moving_average(true, 5, 3, 0.75, 0), 0.75 * 5 + 0.25 * 3);
}

TEST(Scalars, AverageFromTheFirstStepWithAnInitialNorm) {
  EXPECT_EQ(moving_average(false, 0, 3, 0.75, 1), 0.75 * 1 + 0.25 * 3);
  EXPECT_EQ(moving_average(true, 5, 3, 0.75, 1), 0.75 * 5 + 0.25 * 3) << "later steps go on from n";
}

// A norm of zero counts: n continues from 0 and does not start again.
TEST(Scalars, ContinueFromANormOfZero) { EXPECT_EQ(moving_average(true, 0, 3, 0.75, 0), 0.25 * 3); }

TEST(Scalars, DivideBeforeTheyMultiplyByTheWeight) {
  EXPECT_TRUE(same_bits(balancing_scale(3, 0.1, 0.7, 1), 3 * (0.1 / 0.7)));
  ASSERT_FALSE(same_bits(3 * (0.1 / 0.7), (3 * 0.1) / 0.7)) << "these values tell the orders apart";
}

TEST(Scalars, DoNotScaleATermWhoseNormIsAtTheFloor) {
  const double above = std::nextafter(kNormFloor, 1);
  EXPECT_EQ(balancing_scale(7, 2, kNormFloor, 1), 1) << "neither balanced nor weighted, as the reference";
  EXPECT_EQ(balancing_scale(7, 2, above, 1), 7 * (2 / above));
}

TEST(Scalars, SilenceATermOfWeightZeroEvenBelowTheFloor) {
  EXPECT_EQ(balancing_scale(0, 2, 1, 1), 0);
  EXPECT_EQ(balancing_scale(0, 2, 0, 1), 0);
}

TEST(Scalars, RaiseTheQuotientToThePowerOfBalance) {
  test::Random random(45);
  for (int k = 0; k < 100; ++k) {
    const double anchor = random.between(0.1, 10), n = random.between(0.1, 10);
    EXPECT_TRUE(same_bits(balancing_scale(3, anchor, n, 0), 3.0));
    EXPECT_TRUE(same_bits(balancing_scale(3, anchor, n, 0.5), 3 * std::sqrt(anchor / n)));
    EXPECT_TRUE(same_bits(balancing_scale(3, anchor, n, 1), 3 * (anchor / n)));
  }
  EXPECT_TRUE(same_bits(balancing_scale(3, 0.1, 0.7, 0.3), 3 * portable_exp2(0.3 * portable_log2(0.1 / 0.7))));
  EXPECT_NEAR(balancing_scale(3, 0.1, 0.7, 0.3), 3 * std::pow(0.1 / 0.7, 0.3), 1e-14);
}

TEST(Scalars, IgnoreTheBalanceAtTheFloorAndForWeightZero) {
  for (const double p : {0.0, 0.3, 0.5}) {
    EXPECT_EQ(balancing_scale(7, 2, kNormFloor, p), 1);
    EXPECT_EQ(balancing_scale(0, 2, 1, p), 0);
  }
}

// A layer with a term that has not occurred, one at the floor, and then two that qualify, the second with the larger
// norm.
class AnchoredLayer {
 public:
  explicit AnchoredLayer(Anchor anchor, std::uint32_t anchor_term = 0) : terms_(norms.size(), Term{}) {
    for (std::size_t k = 0; k < norms.size(); ++k) terms_[k].norms = &norms[k];
    tables_.terms = terms_.data();
    tables_.term_count = static_cast<std::uint32_t>(terms_.size());
    tables_.anchor = anchor;
    tables_.anchor_term = anchor_term;
  }
  double anchor() const {
    return anchor_norm(tables_, [&](std::uint32_t term) { return norm_of_layer(tables_, term, 0); }).n;
  }

  std::vector<NormState> norms{
      {9, 0, 0, 0, 0, 0}, {kNormFloor, 0, 0, 0, 0, 1}, {4, 0, 0, 0, 0, 1}, {6, 0, 0, 0, 0, 1}, {5, 0, 0, 0, 0, 1}};

 private:
  std::vector<Term> terms_;
  Tables tables_{};
};

TEST(Scalars, AnchorAtTheFirstTermThatHasOccurredAboveTheFloor) {
  AnchoredLayer layer(Anchor::kFirst);
  EXPECT_EQ(layer.anchor(), 4);
  layer.norms[1].n = std::nextafter(kNormFloor, 1);
  EXPECT_EQ(layer.anchor(), layer.norms[1].n);
  layer.norms[0].occurred = 1;
  EXPECT_EQ(layer.anchor(), 9);
}

TEST(Scalars, AnchorAtTheLargestNormThatHasOccurred) {
  AnchoredLayer layer(Anchor::kMax);
  EXPECT_EQ(layer.anchor(), 6);
  layer.norms[0].occurred = 1;
  EXPECT_EQ(layer.anchor(), 9);
}

TEST(Scalars, AnchorAtTheGeometricMeanOfTheNormsAboveTheFloor) {
  AnchoredLayer layer(Anchor::kMean);
  const double expected = portable_exp2((portable_log2(4) + portable_log2(6) + portable_log2(5)) / 3);
  EXPECT_TRUE(same_bits(layer.anchor(), expected)) << "logarithms are added in the order of the terms";
  EXPECT_NEAR(layer.anchor(), std::cbrt(4.0 * 6 * 5), 1e-14);
}

TEST(Scalars, AnchorAtTheNamedTermWhileItQualifies) {
  EXPECT_EQ(AnchoredLayer(Anchor::kTerm, 3).anchor(), 6);
  EXPECT_EQ(AnchoredLayer(Anchor::kTerm, 0).anchor(), 4) << "it has not occurred: as the first";
  EXPECT_EQ(AnchoredLayer(Anchor::kTerm, 1).anchor(), 4) << "it is at the floor: as the first";
}

TEST(Scalars, HaveNoAnchorWhereNoTermIsAboveTheFloor) {
  for (const Anchor anchor : {Anchor::kFirst, Anchor::kMax, Anchor::kMean, Anchor::kTerm}) {
    AnchoredLayer layer(anchor, 2);
    for (NormState& norm : layer.norms) norm.n = kNormFloor;
    EXPECT_EQ(layer.anchor(), 0);
  }
}

// The sum of these weights depends on their order, and must not include the step before.
TEST(Scalars, AddTheWeightsInTheOrderOfTheTerms) {
  StepDivisor divisor{99, 99, 3, 99};
  add_weight(divisor, 1e-17, 4);
  EXPECT_EQ(divisor.w, 1) << "one term alone";
  add_weight(divisor, 0.1, 4);
  add_weight(divisor, 0.3, 4);
  add_weight(divisor, 0.2, 4);
  EXPECT_TRUE(same_bits(divisor.sum, 1e-17 + 0.1 + 0.3 + 0.2));
  EXPECT_EQ(divisor.max, 0.3);
  EXPECT_EQ(divisor.w, static_cast<float>((1e-17 + 0.1 + 0.3 + 0.2) / 0.3));
  add_weight(divisor, 0.5, 5);
  EXPECT_EQ(divisor.sum, 0.5) << "a new step";
}

TEST(Scalars, DoNotShortenAStepWhoseWeightsAreAllZero) {
  StepDivisor divisor{};
  add_weight(divisor, 0, 1);
  add_weight(divisor, 0, 1);
  EXPECT_EQ(divisor.w, 1);
}

TEST(Scalars, MultiplyTheBetasThatWereUsed) {
  Clock clock{0, 1, 1, 0};
  Coefficients out{};
  advance_clock(clock, out, {1e-3, 0.9, 0.999, 0.9, 1}, 4);
  EXPECT_EQ(out.c, static_cast<float>(1e-3 / (1 - 0.9)));
  EXPECT_EQ(out.b, static_cast<float>(std::sqrt(1 - 0.999)));
  advance_clock(clock, out, {1e-2, 0.8, 0.99, 0.9, 1}, 5);
  EXPECT_EQ(clock.t, 2);
  EXPECT_EQ(clock.step, 5u);
  EXPECT_TRUE(same_bits(clock.p1, 0.9 * 0.8));
  EXPECT_TRUE(same_bits(clock.p2, 0.999 * 0.99));
  EXPECT_EQ(out.c, static_cast<float>(1e-2 / (1 - 0.9 * 0.8)));
  EXPECT_EQ(out.b, static_cast<float>(std::sqrt(1 - 0.999 * 0.99)));
}

}  // namespace
}  // namespace mtadam
