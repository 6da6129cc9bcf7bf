#include "test/simt/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace {

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(HalfTest, RoundsToTheNearestEven) {
  EXPECT_EQ(__half_as_ushort(__float2half_rn(1.0f)), 0x3c00);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(-2.0f)), 0xc000);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(1.0f + 0x1p-11f)), 0x3c00);  // a tie, down to even
  EXPECT_EQ(__half_as_ushort(__float2half_rn(1.0f + 3 * 0x1p-11f)), 0x3c02);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(std::nextafter(1.0f + 0x1p-11f, 2.0f))), 0x3c01);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(65504.0f)), 0x7bff);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(std::nextafter(65520.0f, 0.0f))), 0x7bff);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(65520.0f)), 0x7c00);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(0x1p-24f)), 0x0001);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(0x1p-25f)), 0x0000);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(std::nextafter(0x1p-25f, 1.0f))), 0x0001);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(std::nextafter(0x1p-14f, 0.0f))), 0x0400);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(-0.0f)), 0x8000);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(-std::numeric_limits<float>::infinity())), 0xfc00);
  EXPECT_EQ(__half_as_ushort(__float2half_rn(from_bits(0xffc00001u))), 0x7fff);
}

TEST(HalfTest, EveryHalfSurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = __half2float(__ushort_as_half(half));
    const bool nan = (half & 0x7fff) > 0x7c00;
    EXPECT_EQ(std::isnan(value), nan);
    EXPECT_EQ(__half_as_ushort(__float2half_rn(value)), nan ? 0x7fff : half);
    if (!nan && half < 0x7c00) {
      const std::uint32_t exponent = half >> 10;
      const double mantissa = (half & 0x3ff) + (exponent > 0 ? 1024 : 0);
      EXPECT_EQ(value, std::ldexp(mantissa, static_cast<int>(exponent > 0 ? exponent : 1) - 25));
    }
  }
}

TEST(Bfloat16Test, RoundsToTheNearestEven) {
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f)), 0x3f80);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f + 0x1p-8f)), 0x3f80);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f + 3 * 0x1p-8f)), 0x3f82);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(std::numeric_limits<float>::max())), 0x7f80);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(-0.0f)), 0x8000);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(from_bits(0x7f800001u))), 0x7fff);
}

TEST(Bfloat16Test, EveryBfloat16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto value = static_cast<std::uint16_t>(bits);
    const bool nan = (value & 0x7fff) > 0x7f80;
    EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(__bfloat162float(__ushort_as_bfloat16(value)))),
              nan ? 0x7fff : value);
  }
}

}  // namespace
