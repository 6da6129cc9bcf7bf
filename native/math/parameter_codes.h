#pragma once

#include <cstdint>

#include "math/element_types.h"
#include "math/portable.h"
#include "math/state_codes.h"

// θ in 16 bits (docs/algorithm.md, "Parameters in 16 bits"). A step decodes it to float32, which is exact, and rounds
// the result. All on integers but for the conversions of element_types.h, so that every device and instruction set
// gives the same bits.

namespace mtadam {

/// How a narrow θ is rounded.
enum class Rounding : std::uint32_t {
  kStochastic,  // up or down by a draw
  kNearest,     // ties to even
  kMaster,      // to the nearest; a master keeps what is rounded off
};

/// The stream of the draws: name_key("\0theta", 6), which no term has. A constant, since a kernel has no text of the
/// host's.
MTADAM_INLINE std::uint32_t parameter_stream() { return stream_key(0x9cdc65bda1f9d431u); }

// ---- By a draw of 32 bits: a finite value stays finite ---------------------------------------------------------

MTADAM_INLINE std::uint32_t drawn_float16(float x, std::uint32_t word) {
  constexpr std::uint32_t kLargest = 0x7bffu;
  const std::uint32_t bits = magnitude(x);
  const std::uint32_t normal = (bits - kFloat16Rebias + (word >> 19)) >> 13;
  // A multiple of 2⁻²⁴, the smallest float16: the significand without its lowest places, of which 31 are compared with
  // the draw.
  const std::uint32_t places = 126u - (bits < kFloat16Least ? bits >> 23 : 112u);
  const std::uint32_t compared = places < 31u ? places : 31u;
  const std::uint32_t dropped = places - compared < 31u ? places - compared : 31u;
  const std::uint32_t significand = ((bits & 0x7fffffu) | 0x800000u) >> dropped;
  const std::uint32_t subnormal = (significand + (word >> (32u - compared))) >> compared;
  const std::uint32_t code = bits < kFloat16Least ? subnormal : normal;
  const std::uint32_t most = bits < kInfinity ? kLargest : kLargest + 1;
  return bits > kInfinity ? kNanFloat16 : (bits_of(x) >> 16 & 0x8000u) | (code < most ? code : most);
}

/// Of a narrow type.
MTADAM_INLINE std::uint32_t drawn(ElementType type, float x, std::uint32_t word) {
  if (type == ElementType::kFloat16) return drawn_float16(x, word);
  const std::uint32_t code = drawn_bfloat16(x, draw_bfloat16(word));
  return code == kNanBfloat16 ? code : (bits_of(x) >> 16 & 0x8000u) | code;
}

// ---- With a master. One of zeros stands for θ itself, and what the user writes into θ counts ---------------------

/// A bfloat16 θ and the lower half of the float32.
struct Halves {
  std::uint32_t code;
  std::uint32_t low;
};

/// To the nearest, ties up: so the lower half tells which way. Only a NaN changes.
MTADAM_INLINE Halves halved(float x) {
  const std::uint32_t bits = magnitude(x) > kInfinity ? 0x7fc00000u : bits_of(x);
  return {(bits + 0x8000u) >> 16, bits & 0xffffu};
}

/// Halves that halved() does not give belong to a 0 or an infinity of the user's, and would be NaN.
MTADAM_INLINE float joined(std::uint32_t code, std::uint32_t low) {
  const float whole = float_of(((code - (low >> 15)) << 16) | low);
  return magnitude(whole) > kInfinity ? decoded_bfloat16(code) : whole;
}

/// A float16 θ with a master in float32.
MTADAM_INLINE float mastered_float16(std::uint32_t code, float master) {
  return nearest_float16(master) == code ? master : decoded_float16(code);
}

/// Bytes of an element of a master.
constexpr std::uint32_t master_bytes(ElementType type) {
  return type == ElementType::kFloat32 ? 0 : type == ElementType::kBfloat16 ? 2 : 4;
}

}  // namespace mtadam
