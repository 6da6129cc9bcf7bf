#pragma once

#include <cstdint>

#include "cuda/kernels/platform.cuh"
#include "cuda/kernels/vector_io.cuh"
#include "math/element_types.h"

// Access to narrow elements in global memory, 8 bytes at a time where the address allows it.

namespace mtadam::kernels {

/// Elements of a narrow type, read as float32.
struct Narrow {
  const std::uint16_t* first;
  ElementType type;

  __device__ __forceinline__ float operator[](std::uint32_t k) const { return decoded(type, first[k]); }
  __device__ __forceinline__ Narrow operator+(std::uint32_t elements) const { return {first + elements, type}; }
};

/// The elements of a gradient or parameter whose type is narrow.
__device__ __forceinline__ Narrow narrow(const float* first, ElementType type) {
  return {reinterpret_cast<const std::uint16_t*>(first), type};
}

/// Four consecutive elements, in registers as they are in memory.
struct NarrowFour {
  uint2 codes;
  ElementType type;
};

/// How many elements the first one is short of an 8-byte boundary: 0 to 3.
__device__ __forceinline__ std::uint32_t short_of_boundary(const Narrow& elements) {
  return static_cast<std::uint32_t>((0 - reinterpret_cast<std::uintptr_t>(elements.first) / sizeof(std::uint16_t)) %
                                    kVector);
}

/// The first element lies on an 8-byte boundary.
__device__ __forceinline__ NarrowFour load4(const Narrow& elements) {
  return {*reinterpret_cast<const uint2*>(elements.first), elements.type};
}

__device__ __forceinline__ float value(const NarrowFour& four, std::uint32_t k) {
  const std::uint32_t pair = k < 2 ? four.codes.x : four.codes.y;
  return decoded(four.type, k % 2 == 0 ? pair & 0xffffu : pair >> 16);
}
__device__ __forceinline__ float value(const Four& four, std::uint32_t k) { return four.e[k]; }

}  // namespace mtadam::kernels
