#include "math/state_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "support.h"

// Literal values where the format says them; otherwise the properties that every code must have.

namespace mtadam {
namespace {

using test::Random;
using test::same_bits;

constexpr std::uint32_t kDraws[] = {0, 1, 0x7ffff, 0x80000, 0xfffff};
constexpr std::uint32_t kInfinityBits = 0x7f800000;

TEST(StateCodes, DrawTheWordsOfTheFormat) {
  const ChunkKey key = chunk_key(1, 2, 3, 4);
  EXPECT_EQ(key.a, 0xeb3ccafbu);
  EXPECT_EQ(key.b, 0xd55ccd4au);
  EXPECT_EQ(element_word(key, 5), 0x621f58e3u);
  EXPECT_EQ(stream_word(element_word(key, 5), stream_key(6)), 0x5f98a0c3u);
  EXPECT_EQ(name_key("a", 1), 0xaf63dc4c8601ec8cu);  // published with the hash
}

TEST(StateCodes, KeepEveryCodeOfVWhenRoundedAgain) {
  for (std::uint32_t s = 33; s < kNanExponent - 1; ++s) {
    const std::uint32_t base = v_base(s);
    for (std::uint32_t code = 0; code < 256; ++code) {
      const float v = decoded_v(code, base);
      ASSERT_GE(v, 0);
      for (const std::uint32_t draw : kDraws) {
        const Rounded again = rounded_v(v, base, draw);
        ASSERT_EQ(again.code, code) << "exponent " << s << ", draw " << draw;
        ASSERT_TRUE(same_bits(again.value, v));
      }
    }
  }
}

TEST(StateCodes, KeepEveryCodeOfMWhenRoundedAgain) {
  for (std::uint32_t s = 24; s < kNanExponent - 1; ++s) {
    const float up = m_up(s), down = m_down(s);
    for (std::uint32_t code = 0; code < 256; ++code) {
      const float m = decoded_m(code, down);
      for (const std::uint32_t draw : kDraws) {
        const Rounded again = rounded_m(m, up, down, draw);
        // The code of −0 stands for 0.
        ASSERT_EQ(again.code, code == 0x80 ? 0 : code) << "exponent " << s << ", draw " << draw;
        ASSERT_TRUE(same_bits(again.value, m));
      }
    }
  }
}

TEST(StateCodes, RoundAllMagnitudesToTheCodesNextToThem) {
  Random random(41);
  for (int k = 0; k < 300000; ++k) {
    const auto draw = static_cast<std::uint32_t>(random.below(1 << 20));
    std::uint32_t low = static_cast<std::uint32_t>(random.below(kInfinityBits));
    std::uint32_t high = static_cast<std::uint32_t>(random.below(kInfinityBits));
    if (low > high) std::swap(low, high);
    if (const std::uint32_t s = v_exponent(high); s != 0 && s != kNanExponent) {
      for (const std::uint32_t bits : {low, high}) {
        const Rounded v = rounded_v(float_of(bits), v_base(s), draw);
        ASSERT_LE(v.code, 255u);
        ASSERT_TRUE(same_bits(v.value, decoded_v(v.code, v_base(s))));
        ASSERT_EQ(v.code == 0, bits == 0);
        // A step is an eighth of a binade, but for what is below the least code.
        if (v.code > 1) {
          ASSERT_LE(std::fabs(v.value - float_of(bits)), 0.125f * float_of(bits));
        }
      }
    }
    if (const std::uint32_t s = m_exponent(high); s != 0 && s != kNanExponent) {
      for (const std::uint32_t bits : {low, high, low | 0x80000000, high | 0x80000000}) {
        const Rounded m = rounded_m(float_of(bits), m_up(s), m_down(s), draw);
        ASSERT_LE(m.code, 255u);
        ASSERT_TRUE(same_bits(m.value, decoded_m(m.code, m_down(s))));
        ASSERT_EQ(m.code >> 7, bits >> 31);
        // Above the foot a step is an eighth; in it, a unit.
        const float unit = 0x1p-18f * m_down(s);
        ASSERT_LE(std::fabs(m.value - float_of(bits)), 0.125f * std::fabs(float_of(bits)) + 1.001f * unit);
      }
    }
  }
}

TEST(StateCodes, MarkABlockThatIsNotFiniteOrTooLarge) {
  for (const std::uint32_t bits : {0x7f800000u, 0x7fc00000u, 0x7fffffffu}) {
    EXPECT_EQ(v_exponent(bits), kNanExponent);
    EXPECT_EQ(m_exponent(bits), kNanExponent);
  }
  // The largest blocks that have an exponent, and the next ones.
  constexpr std::uint32_t kLargestV = (254u << 23) - 0x100000u, kLargestM = (254u << 23) - 0x100201u;
  EXPECT_EQ(v_exponent(kLargestV), 253u);
  EXPECT_EQ(v_exponent(kLargestV + 1), kNanExponent);
  EXPECT_EQ(m_exponent(kLargestM), 253u);
  EXPECT_EQ(m_exponent(kLargestM + 1), kNanExponent);
  // Whatever the sign and the payload of a NaN are.
  EXPECT_EQ(v_exponent(magnitude(float_of(0xffffffffu))), kNanExponent);
  EXPECT_EQ(v_exponent(0), 0u);
  EXPECT_EQ(m_exponent(0), 0u);
  EXPECT_TRUE(same_bits(rounded_m(-0.0f, m_up(0), m_down(0), 0xfffff).value, 0.0f));
}

// 0.01 among values up to 3.7, and −0.01 among values up to 0.3.
TEST(StateCodes, HaveTheValuesOfTheFormat) {
  const std::uint32_t s = v_exponent(bits_of(3.7f));
  const std::uint32_t t = m_exponent(bits_of(0.3f));
  EXPECT_EQ(s, 128u);
  EXPECT_EQ(t, 125u);
  const Rounded v = rounded_v(0.01f, v_base(s), kHalf >> 12);
  const Rounded m = rounded_m(-0.01f, m_up(t), m_down(t), kHalfM);
  EXPECT_EQ(v.code, 186u);
  EXPECT_EQ(v.value, 0.009765625f);
  EXPECT_EQ(m.code, 0xd2u);
  EXPECT_EQ(m.value, -0.00975799561f);
}

template <class Round>
void expect_mean(double expected, double step, const Round& round) {
  constexpr int kCount = 1 << 16;
  double sum = 0;
  const ChunkKey key = chunk_key(7, 8, 9, 10);
  for (std::uint32_t e = 0; e < kCount; ++e) sum += static_cast<double>(round(stream_word(element_word(key, e), 11)));
  // Four standard errors of a value that is one of two, a step apart.
  EXPECT_NEAR(sum / kCount, expected, 4 * 0.5 * step / std::sqrt(kCount));
}

TEST(StateCodes, RoundWithoutBias) {
  Random random(42);
  for (int k = 0; k < 20; ++k) {
    const auto x = static_cast<float>(random.between(1e-4, 1));
    const double binade = std::ldexp(1.0, std::ilogb(x));
    const std::uint32_t s = v_exponent(bits_of(1.0f)), t = m_exponent(bits_of(1.0f));
    expect_mean(x, binade / 8, [&](std::uint32_t w) { return rounded_v(x, v_base(s), draw_v(w)).value; });
    expect_mean(x, binade / 8, [&](std::uint32_t w) { return rounded_m(x, m_up(t), m_down(t), draw_m(w)).value; });
    expect_mean(x, binade / 128,
                [&](std::uint32_t w) { return decoded_bfloat16(drawn_bfloat16(x, draw_bfloat16(w))); });
  }
}

// Correlation of draws in [0, 1) with those of another stream, of the neighbour, of the next step and of another
// tensor.
TEST(StateCodes, DrawWithoutCorrelation) {
  constexpr std::uint32_t kCount = 1 << 15;
  const auto draws = [](std::uint64_t step, std::uint64_t tensor, std::uint64_t term, std::uint32_t shift) {
    const ChunkKey key = chunk_key(1, step, tensor, 0);
    const std::uint32_t stream = stream_key(term);
    std::vector<double> values(kCount);
    for (std::uint32_t e = 0; e < kCount; ++e) {
      values[e] = draw_v(stream_word(element_word(key, e + shift), stream)) * 0x1p-20 - 0.5;
    }
    return values;
  };
  const std::vector<double> first = draws(1, 2, 3, 0);
  const std::vector<double> others[] = {draws(1, 2, 4, 0), draws(1, 2, 3, 1), draws(2, 2, 3, 0), draws(1, 3, 3, 0)};
  for (const std::vector<double>& other : others) {
    double product = 0;
    for (std::uint32_t e = 0; e < kCount; ++e) product += 12 * first[e] * other[e];
    EXPECT_LE(std::fabs(product) / kCount, 4 / std::sqrt(kCount));
  }
}

TEST(StateCodes, RoundToBfloat16) {
  EXPECT_EQ(nearest_bfloat16(1.0f), 0x3f80u);
  EXPECT_EQ(nearest_bfloat16(float_of(0x3f808000)), 0x3f80u);  // ties to even
  EXPECT_EQ(nearest_bfloat16(float_of(0x3f818000)), 0x3f82u);
  EXPECT_EQ(nearest_bfloat16(-1.0f), 0xbf80u);
  EXPECT_EQ(nearest_bfloat16(std::numeric_limits<float>::quiet_NaN()), kNanBfloat16);
  EXPECT_EQ(drawn_bfloat16(float_of(0x3f800001), 0), 0x3f80u);
  EXPECT_EQ(drawn_bfloat16(float_of(0x3f800001), 0xffff), 0x3f81u);
  EXPECT_EQ(drawn_bfloat16(std::numeric_limits<float>::max(), 0xffff), 0x7f7fu);
  EXPECT_EQ(drawn_bfloat16(std::numeric_limits<float>::infinity(), 0xffff), 0x7f80u);
  EXPECT_EQ(drawn_bfloat16(float_of(0x7fffffff), 0xffff), kNanBfloat16);
  for (std::uint32_t code = 0; code <= 0x7f80; ++code) {
    ASSERT_EQ(nearest_bfloat16(decoded_bfloat16(code)), code);
    ASSERT_EQ(drawn_bfloat16(decoded_bfloat16(code), 0xffff), code);
  }
}

}  // namespace
}  // namespace mtadam
