#pragma once

#include <bit>
#include <cstdint>

// __half and __nv_bfloat16 for a compiler that has no CUDA headers, as far as storage types need them: conversion from
// and to float, round to nearest even, the same bits as CUDA's for every value, and the raw bits.

/// The bits of a float rounded to half precision. A NaN gives 0x7fff.
constexpr std::uint16_t simt_float_to_half_bits(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  // From 65520, halfway between the largest half and the next power of two, it rounds to infinity.
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Subnormal: 0.5f has half's smallest subnormal as its last place, so the addition rounds to it.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u));
  }
  const std::uint32_t rebased = magnitude - 0x38000000u;
  const std::uint32_t tie_to_even = 0xfffu + ((rebased >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rebased + tie_to_even) >> 13));
}

/// Exact. A NaN gives 0x7fffffff.
constexpr float simt_half_bits_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(mantissa != 0 ? 0x7fffffffu : sign | 0x7f800000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

/// The bits of a float rounded to bfloat16. A NaN gives 0x7fff.
constexpr std::uint16_t simt_float_to_bfloat16_bits(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  const std::uint32_t tie_to_even = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<std::uint16_t>((bits + tie_to_even) >> 16);
}

/// Exact.
constexpr float simt_bfloat16_bits_to_float(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

struct __half_raw {
  unsigned short x;
};

struct __nv_bfloat16_raw {
  unsigned short x;
};

struct alignas(2) __half {
  __half() = default;
  constexpr __half(__half_raw raw) : bits_(raw.x) {}
  constexpr __half(float value) : bits_(simt_float_to_half_bits(value)) {}
  constexpr operator float() const { return simt_half_bits_to_float(bits_); }
  constexpr operator __half_raw() const { return {bits_}; }

 private:
  unsigned short bits_;
};

struct alignas(2) __nv_bfloat16 {
  __nv_bfloat16() = default;
  constexpr __nv_bfloat16(__nv_bfloat16_raw raw) : bits_(raw.x) {}
  constexpr __nv_bfloat16(float value) : bits_(simt_float_to_bfloat16_bits(value)) {}
  constexpr operator float() const { return simt_bfloat16_bits_to_float(bits_); }
  constexpr operator __nv_bfloat16_raw() const { return {bits_}; }

 private:
  unsigned short bits_;
};

struct alignas(4) __half2 {
  __half x, y;
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

constexpr float __half2float(__half value) { return static_cast<float>(value); }
constexpr __half __float2half(float value) { return __half(value); }
constexpr __half __float2half_rn(float value) { return __half(value); }
constexpr unsigned short __half_as_ushort(__half value) { return static_cast<__half_raw>(value).x; }
constexpr __half __ushort_as_half(unsigned short bits) { return __half(__half_raw{bits}); }

constexpr float __bfloat162float(__nv_bfloat16 value) { return static_cast<float>(value); }
constexpr __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
constexpr __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
constexpr unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return static_cast<__nv_bfloat16_raw>(value).x; }
constexpr __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16(__nv_bfloat16_raw{bits}); }
