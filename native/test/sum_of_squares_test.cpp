#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cpu/instruction_set.h"
#include "math/lane_sum.h"
#include "support.h"

namespace mtadam {
namespace {

using test::canonical_chunk_sum;
using test::Random;
using test::same_bits;

std::vector<std::uint32_t> counts() {
  std::vector<std::uint32_t> all;
  for (std::uint32_t count = 0; count <= 1100; ++count) all.push_back(count);
  for (std::uint32_t count = 3000; count < kChunkElements; count += 61) all.push_back(count);
  all.insert(all.end(), {kChunkElements - 1, kChunkElements});
  return all;
}

/// The sum of squares, so many elements at a time.
double sum_of_parts(const Loops& loops, const float* values, std::uint32_t count, std::uint32_t together) {
  LaneSquares lanes{};
  for (std::uint32_t done = 0; done < count; done += together) {
    const std::uint32_t part = std::min(together, count - done);
    EXPECT_FALSE(loops.add_squares(lanes, values + done, done, part, std::numeric_limits<double>::infinity()));
  }
  return loops.total_of_lanes(lanes);
}

// Every instruction set, count and misalignment, bit for bit.
void expect_canonical(const std::vector<float>& values) {
  for (const std::uint32_t count : counts()) {
    const double expected = canonical_chunk_sum(values.data(), count);
    ASSERT_TRUE(same_bits(expected, chunk_sum_of_squares(values.data(), count))) << count << " elements";
    for (std::size_t shift = 0; shift < 4; ++shift) {
      // Of exactly the length that is read, so that a sanitizer sees any further element.
      std::vector<float> shifted(shift + count);
      std::copy_n(values.begin(), count, shifted.begin() + static_cast<std::ptrdiff_t>(shift));
      for (const InstructionSet& set : instruction_sets()) {
        const double actual = set.loops->sum_of_squares(shifted.data() + shift, count);
        ASSERT_TRUE(same_bits(expected, actual)) << set.name << ", " << count << " elements, " << 4 * shift
                                                 << " bytes past alignment: " << actual << " instead of " << expected;
        for (const std::uint32_t together : {kChunkLanes, kSegmentElements / 2, kSegmentElements}) {
          const double added = sum_of_parts(*set.loops, shifted.data() + shift, count, together);
          ASSERT_TRUE(same_bits(expected, added)) << set.name << ", " << count << " elements, " << together;
        }
      }
    }
  }
}

TEST(SumOfSquares, FollowsTheCanonicalOrderOverEveryMagnitude) {
  Random random(1);
  std::vector<float> values(kChunkElements);
  for (float& value : values) value = random.of_magnitude(-100, 100);  // 1e-30 to 1e30
  expect_canonical(values);
}

// Squares of similar size: every sum is rounded, so every order gives different bits.
TEST(SumOfSquares, FollowsTheCanonicalOrderWhereEverySumIsRounded) {
  Random random(2);
  std::vector<float> values(kChunkElements);
  for (float& value : values) value = static_cast<float>(random.between(-1, 1));
  expect_canonical(values);
}

// The sums of cosines have the same order, with another factor.
TEST(DotProduct, FollowsTheCanonicalOrder) {
  Random random(4);
  std::vector<float> a(kChunkElements), b(kChunkElements);
  for (const int spread : {1, 100}) {
    for (std::vector<float>* const values : {&a, &b}) {
      for (float& value : *values) value = random.of_magnitude(-spread, spread);
    }
    for (const std::uint32_t count : counts()) {
      const double expected = canonical_chunk_sum(a.data(), b.data(), count);
      for (std::size_t shift = 0; shift < 4; ++shift) {
        std::vector<float> shifted(shift + count);
        std::copy_n(b.begin(), count, shifted.begin() + static_cast<std::ptrdiff_t>(shift));
        for (const InstructionSet& set : instruction_sets()) {
          const double actual = set.loops->dot_product(a.data(), shifted.data() + shift, count);
          ASSERT_TRUE(same_bits(expected, actual)) << set.name << ", " << count << " elements, shift " << shift;
        }
      }
    }
  }
}

TEST(SumOfSquares, SquaresSubnormalsExactly) {
  Random random(3);
  std::vector<float> values(kChunkElements);
  for (float& value : values) value = random.of_magnitude(-149, -120);
  expect_canonical(values);
  constexpr float kSmallest = std::numeric_limits<float>::denorm_min();
  for (const InstructionSet& set : instruction_sets()) {
    EXPECT_EQ(set.loops->sum_of_squares(&kSmallest, 1), 0x1p-298) << set.name;
  }
}

TEST(SumOfSquares, IsRightTo1em6FromTinyToHuge) {
  for (const double magnitude : {1e-30, 1e-23, 1e-10, 1.0, 1e19, 1e30}) {
    const std::vector<float> values(kChunkElements, static_cast<float>(magnitude));
    for (const InstructionSet& set : instruction_sets()) {
      const double norm = std::sqrt(set.loops->sum_of_squares(values.data(), kChunkElements));
      EXPECT_NEAR(norm / (64 * magnitude), 1, 1e-6) << set.name << ", " << magnitude;
    }
  }
}

TEST(SumOfSquares, PropagatesANanOrInfinityFromAnyPosition) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const std::uint32_t count : {1u, 31u, 257u, 4095u, 4096u}) {
    std::vector<float> values(count, 1.0f);
    for (std::uint32_t place = 0; place < count; place += 1 + place / 8) {
      for (const InstructionSet& set : instruction_sets()) {
        values[place] = kNan;
        EXPECT_TRUE(std::isnan(set.loops->sum_of_squares(values.data(), count))) << set.name << ", " << place;
        values[place] = -kInfinity;
        EXPECT_EQ(set.loops->sum_of_squares(values.data(), count), kInfinity) << set.name << ", " << place;
        values[place] = 1;
      }
    }
  }
}

TEST(SumOfSquares, TellsWhereALaneExceedsABound) {
  for (const std::uint32_t count : {1u, 31u, 32u, 33u, 128u, 255u, kSegmentElements}) {
    for (const InstructionSet& set : instruction_sets()) {
      for (std::uint32_t place = 0; place < count; ++place) {
        std::vector<float> values(count, 0.0f);
        const auto exceeds = [&](float value, double bound) {
          LaneSquares lanes{};
          values[place] = value;
          return set.loops->add_squares(lanes, values.data(), 0, count, bound);
        };
        ASSERT_FALSE(exceeds(3, 9)) << set.name << ", " << place << " of " << count;
        ASSERT_TRUE(exceeds(-3, std::nextafter(9, 0))) << set.name << ", " << place << " of " << count;
        ASSERT_TRUE(exceeds(std::nanf(""), HUGE_VAL)) << set.name << ", " << place << " of " << count;
        ASSERT_TRUE(exceeds(HUGE_VALF, std::numeric_limits<double>::max())) << set.name << ", " << place;
        ASSERT_TRUE(exceeds(0, -1)) << set.name << ", " << place;
      }
    }
  }
}

}  // namespace
}  // namespace mtadam
