#pragma once

#include <cstdint>

#include "math/bits.h"
#include "math/portable.h"

// The codes of a lean state (docs/algorithm.md, "Lean state"): bfloat16, or 8 bits under an exponent that a block of
// elements shares; and the draws that round them. All arithmetic is on integers but for one multiplication and one
// addition, so that every device and instruction set gives the same bits. Unsigned arithmetic wraps.

namespace mtadam {

/// The type of the moments of a tensor of at least kLeanElements elements; smaller ones stay float32.
enum class StateType : std::uint32_t { kFloat32, kBfloat16, k8bit };

/// Elements of one tensor that share an exponent.
constexpr std::uint32_t kCodeBlock = 128;
constexpr std::uint64_t kLeanElements = 4096;

/// An element of a code plane.
constexpr std::uint32_t code_bytes(StateType type) { return type == StateType::k8bit ? 1 : 2; }

constexpr std::uint64_t code_blocks(std::uint64_t elements) { return (elements + kCodeBlock - 1) / kCodeBlock; }

/// The exponent of a block with a value that is NaN or too large. The whole block is then NaN, and its codes are 0.
constexpr std::uint32_t kNanExponent = 255;

// ---- Draws ---------------------------------------------------------------------------------------------------

/// The finaliser of splitmix64.
MTADAM_INLINE std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

MTADAM_INLINE std::uint64_t folded(std::uint64_t x, std::uint64_t y) { return mixed((x ^ y) + 0x9e3779b97f4a7c15u); }

/// What the draws of a chunk start from.
struct ChunkKey {
  std::uint32_t a;
  std::uint32_t b;
};

/// `step`: completed steps; `tensor`: name_key() of the parameter; `chunk`: its index within the tensor.
MTADAM_INLINE ChunkKey chunk_key(std::uint64_t seed, std::uint64_t step, std::uint64_t tensor, std::uint64_t chunk) {
  const std::uint64_t x = folded(folded(folded(folded(0, seed), step), tensor), chunk);
  return {static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(x >> 32)};
}

constexpr std::uint64_t kFnvStart = 0xcbf29ce484222325u;

/// FNV-1a, 64 bits, continued from the hash of the bytes before.
MTADAM_INLINE std::uint64_t fnv1a(const void* bytes, std::uint64_t count, std::uint64_t before = kFnvStart) {
  std::uint64_t x = before;
  for (std::uint64_t k = 0; k < count; ++k) x = (x ^ static_cast<const unsigned char*>(bytes)[k]) * 0x100000001b3u;
  return x;
}

/// Draws depend on names, since a checkpoint may be loaded with terms and parameters in another order.
MTADAM_INLINE std::uint64_t name_key(const char* name, std::uint64_t length) { return fnv1a(name, length); }

/// Separates the draws of one term from those of another; `name`: its name_key().
MTADAM_INLINE std::uint32_t stream_key(std::uint64_t name) { return static_cast<std::uint32_t>(folded(0, name)); }

/// The stream of the moments that all terms share: no term has this name.
MTADAM_INLINE std::uint32_t shared_stream() { return stream_key(name_key("\0M", 2)); }

/// The draw of an element, by its place in the chunk; the same for all streams.
MTADAM_INLINE std::uint32_t element_word(ChunkKey key, std::uint32_t element) {
  std::uint32_t x = key.a + element * 0x9e3779b9u;
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x = (x ^ key.b ^ (x >> 15)) * 0x735a2d97u;
  return x ^ (x >> 15);
}

/// The same in one stream.
MTADAM_INLINE std::uint32_t stream_word(std::uint32_t word, std::uint32_t stream) {
  const std::uint32_t x = (word ^ stream) * 0x9e3779b1u;
  return x ^ (x >> 15);
}

/// Draws of 20 bits for an 8-bit code, of 16 for bfloat16.
MTADAM_INLINE std::uint32_t draw_m(std::uint32_t word) { return word & 0xfffffu; }
MTADAM_INLINE std::uint32_t draw_v(std::uint32_t word) { return word >> 12; }
MTADAM_INLINE std::uint32_t draw_bfloat16(std::uint32_t word) { return word >> 16; }

/// The words whose draws round to nearest, ties up: half of the first place that is dropped.
constexpr std::uint32_t kHalfM = 0x80000u;
constexpr std::uint32_t kHalf = 0x80000000u;  // of v, and of bfloat16

/// A code and the value that it stands for.
struct Rounded {
  std::uint32_t code;
  float value;
};

// ---- v and x in 8 bits: five bits of exponent, three of mantissa; code 0 is 0 ---------------------------------

/// The bits of a value, of which the largest in a block determines the exponent.
MTADAM_INLINE std::uint32_t magnitude(float x) { return bits_of(x) & 0x7fffffffu; }

MTADAM_INLINE std::uint32_t v_exponent(std::uint32_t largest) {
  if (largest == 0) return 0;
  const std::uint32_t s = (largest + 0xfffffu) >> 23;
  return s < 33 ? 33 : s > 253 ? kNanExponent : s;
}

MTADAM_INLINE std::uint32_t v_base(std::uint32_t exponent) { return (exponent - 31u) << 23; }

MTADAM_INLINE float decoded_v(std::uint32_t code, std::uint32_t base) {
  const std::uint32_t live = 0u - static_cast<std::uint32_t>(code != 0);
  return float_of(((code << 20) + base) & live);
}

/// A value that is not 0 never becomes 0: with m above 0, the step would be m/ε.
MTADAM_INLINE Rounded rounded_v(float v, std::uint32_t base, std::uint32_t draw) {
  const std::uint32_t bits = magnitude(v);
  const std::int32_t code = static_cast<std::int32_t>(bits - base + draw) >> 20;
  const std::uint32_t least = static_cast<std::uint32_t>(code < 1 ? 1 : code);
  const std::uint32_t live = 0u - static_cast<std::uint32_t>(bits != 0);
  return {least & live, float_of(((least << 20) + base) & live)};
}

// ---- m in 8 bits: a sign, four bits of exponent, three of mantissa, with a linear foot ------------------------

MTADAM_INLINE std::uint32_t m_exponent(std::uint32_t largest) {
  if (largest == 0) return 0;
  const std::uint32_t s = (largest + 0x100200u) >> 23;
  return s < 24 ? 24 : s > 253 ? kNanExponent : s;
}

/// Factors to and from a code's scale; 0 for a block of zeros.
MTADAM_INLINE float m_up(std::uint32_t exponent) { return float_of(exponent == 0 ? 0 : (254u - exponent) << 23); }
MTADAM_INLINE float m_down(std::uint32_t exponent) { return float_of(exponent << 23); }

constexpr std::uint32_t kFoot = 0x38000000u;  // 2⁻¹⁵

MTADAM_INLINE float decoded_m(std::uint32_t code, float down) {
  const std::uint32_t sign = (code & 0x80u) << 24;
  return (float_of(sign | kFoot | (code & 0x7fu) << 20) - float_of(sign | kFoot)) * down;
}

MTADAM_INLINE Rounded rounded_m(float m, float up, float down, std::uint32_t draw) {
  const float foot = float_of((bits_of(m) & 0x80000000u) | kFoot);
  const std::uint32_t bits = bits_of(m * up + foot) + draw;
  return {((bits >> 20) & 0x7fu) | ((bits >> 24) & 0x80u), (float_of(bits & 0xfff00000u) - foot) * down};
}

// ---- bfloat16 -------------------------------------------------------------------------------------------------

MTADAM_INLINE float decoded_bfloat16(std::uint32_t code) { return float_of(code << 16); }

constexpr std::uint32_t kNanBfloat16 = 0x7fffu;
constexpr std::uint32_t kInfinity = 0x7f800000u;

/// To nearest, ties to even.
MTADAM_INLINE std::uint32_t nearest_bfloat16(float x) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t code = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7fffffffu) > kInfinity ? kNanBfloat16 : code;
}

/// A value of at least 0, up or down by a draw of 16 bits, but not from finite to infinite.
MTADAM_INLINE std::uint32_t drawn_bfloat16(float x, std::uint32_t draw) {
  const std::uint32_t bits = magnitude(x);
  const std::uint32_t code = (bits + draw) >> 16;
  const std::uint32_t most = bits < kInfinity ? 0x7f7fu : 0x7f80u;
  return bits > kInfinity ? kNanBfloat16 : code < most ? code : most;
}

}  // namespace mtadam
