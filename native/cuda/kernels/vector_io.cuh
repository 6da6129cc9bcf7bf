#pragma once

#include <cstdint>

#include "cuda/kernels/platform.cuh"

// Access to float32 in global memory, 16 bytes at a time where the address allows it.

namespace mtadam::kernels {

constexpr std::uint32_t kVector = 4;  // elements

/// Four consecutive elements in registers.
struct Four {
  float e[kVector];
};

/// How many elements `p` is short of a 16-byte boundary: 0 to 3.
__device__ __forceinline__ std::uint32_t short_of_boundary(const float* p) {
  return static_cast<std::uint32_t>((0 - reinterpret_cast<std::uintptr_t>(p) / sizeof(float)) % kVector);
}

/// `p` lies on a 16-byte boundary. The hint says what is usual; with it, the memory is known to be global, which the
/// compiler does not see everywhere.
__device__ __forceinline__ Four load4(const float* p) {
  const float4 v = __ldca(reinterpret_cast<const float4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}

__device__ __forceinline__ void store4(float* p, const Four& v) {
  __stwb(reinterpret_cast<float4*>(p), make_float4(v.e[0], v.e[1], v.e[2], v.e[3]));
}

}  // namespace mtadam::kernels
