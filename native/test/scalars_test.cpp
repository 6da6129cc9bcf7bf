#include "kernels/scalars.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support.h"

namespace mtadam {
namespace {

using test::same_bits;

TEST(Scalars, TakeTheFirstNormAsItIs) {
  const Balance fresh{};
  const Balance old{5, 0, 0, 0, 0, 1};
  EXPECT_EQ(moving_norm(fresh, 3, 0.75, 0), 3);
  EXPECT_EQ(moving_norm(old, 3, 0.75, 0), 0.75 * 5 + 0.25 * 3);
}

TEST(Scalars, AverageFromTheFirstStepWhereAnInitialNormIsGiven) {
  const Balance fresh{};
  const Balance old{5, 0, 0, 0, 0, 1};
  EXPECT_EQ(moving_norm(fresh, 3, 0.75, 1), 0.75 * 1 + 0.25 * 3);
  EXPECT_EQ(moving_norm(old, 3, 0.75, 1), 0.75 * 5 + 0.25 * 3) << "later steps go on from n";
}

// A norm of zero is a norm: n goes on from 0, it does not start again.
TEST(Scalars, GoOnFromANormOfZero) {
  const Balance silent{0, 0, 0, 0, 0, 1};
  EXPECT_EQ(moving_norm(silent, 3, 0.75, 0), 0.25 * 3);
}

TEST(Scalars, BalanceWithTheQuotientFirst) {
  EXPECT_TRUE(same_bits(balancing_scale(3, 0.1, 0.7), 3 * (0.1 / 0.7)));
  ASSERT_FALSE(same_bits(3 * (0.1 / 0.7), (3 * 0.1) / 0.7)) << "these values tell the orders apart";
}

TEST(Scalars, LeaveATermAloneAtTheFloorOfItsNorm) {
  const double above = std::nextafter(kNormFloor, 1);
  EXPECT_EQ(balancing_scale(7, 2, kNormFloor), 1) << "neither balanced nor weighted, as the reference";
  EXPECT_EQ(balancing_scale(7, 2, above), 7 * (2 / above));
}

TEST(Scalars, SilenceATermOfWeightZeroEvenBelowTheFloor) {
  EXPECT_EQ(balancing_scale(0, 2, 1), 0);
  EXPECT_EQ(balancing_scale(0, 2, 0), 0);
}

TEST(Scalars, AnchorAtTheFirstTermThatHasOccurredAboveTheFloor) {
  const std::vector<Balance> norms{
      {9, 0, 0, 0, 0, 0}, {kNormFloor, 0, 0, 0, 0, 1}, {4, 0, 0, 0, 0, 1}, {6, 0, 0, 0, 0, 1}};
  std::vector<Balance> layer = norms;
  std::vector<Term> terms(layer.size(), Term{});
  for (std::size_t k = 0; k < layer.size(); ++k) terms[k].balance = &layer[k];
  Tables tables{};
  tables.terms = terms.data();
  tables.term_count = static_cast<std::uint32_t>(terms.size());
  EXPECT_EQ(anchor_norm(tables, 0), 4);
  layer[1].n = std::nextafter(kNormFloor, 1);
  EXPECT_EQ(anchor_norm(tables, 0), layer[1].n);
  layer[0].occurred = 1;
  EXPECT_EQ(anchor_norm(tables, 0), 9);
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
