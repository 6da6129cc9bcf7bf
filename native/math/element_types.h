#pragma once

#include <cstdint>

#include "math/bits.h"
#include "math/portable.h"
#include "math/state_codes.h"

// The types that the elements of a parameter or gradient can have. Those of 16 bits are narrow: they are converted to
// float32, which is exact, before anything is computed. All on integers but for one addition, so that every device and
// instruction set gives the same bits, and none is slow or inexact where a number is subnormal.

namespace mtadam {

enum class ElementType : std::uint32_t { kFloat32, kBfloat16, kFloat16 };

constexpr std::uint32_t element_bytes(ElementType type) { return type == ElementType::kFloat32 ? 4 : 2; }

constexpr std::uint32_t kFloat16Rebias = 112u << 23;  // between the exponents of float16 and float32
constexpr std::uint32_t kFloat16Least = 113u << 23;   // 2⁻¹⁴, the smallest normal float16
constexpr std::uint32_t kFloat16Infinity = 31u << 23;

MTADAM_INLINE float decoded_float16(std::uint32_t code) {
  const std::uint32_t magnitude = (code & 0x7fffu) << 13;
  const std::uint32_t special = 0u - static_cast<std::uint32_t>(magnitude >= kFloat16Infinity);
  const std::uint32_t normal = magnitude + kFloat16Rebias + (special & kFloat16Rebias);
  // 2⁻¹⁴ has the significand of a subnormal as its own, and the difference is exact.
  const std::uint32_t subnormal = bits_of(float_of(magnitude + kFloat16Least) - float_of(kFloat16Least));
  const std::uint32_t small = 0u - static_cast<std::uint32_t>(magnitude < (1u << 23));
  return float_of((code & 0x8000u) << 16 | (subnormal & small) | (normal & ~small));
}

constexpr std::uint32_t kNanFloat16 = 0x7fffu;

/// To nearest, ties to even.
MTADAM_INLINE std::uint32_t nearest_float16(float x) {
  const std::uint32_t sign = bits_of(x) >> 16 & 0x8000u;
  const std::uint32_t bits = magnitude(x);
  // The last place of 0.5 is the smallest float16: the addition rounds.
  constexpr std::uint32_t kHalfBits = 0x3f000000u;
  const std::uint32_t subnormal = bits_of(float_of(bits < kFloat16Least ? bits : 0) + float_of(kHalfBits)) - kHalfBits;
  const std::uint32_t normal = (bits - kFloat16Rebias + 0xfffu + (bits >> 13 & 1u)) >> 13;
  const std::uint32_t finite = bits < kFloat16Least ? subnormal : normal < 0x7c00u ? normal : 0x7c00u;
  return bits > kInfinity ? kNanFloat16 : sign | (bits == kInfinity ? 0x7c00u : finite);
}

/// Of a narrow type.
MTADAM_INLINE float decoded(ElementType type, std::uint32_t code) {
  return type == ElementType::kFloat16 ? decoded_float16(code) : decoded_bfloat16(code);
}

MTADAM_INLINE std::uint32_t nearest(ElementType type, float x) {
  return type == ElementType::kFloat16 ? nearest_float16(x) : nearest_bfloat16(x);
}

}  // namespace mtadam
