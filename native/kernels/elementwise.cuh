#pragma once

#include <cstdint>

#include "kernels/cuda_device.cuh"

// What buffers need beside a step.

namespace mtadam::kernels {

constexpr std::uint32_t kElementwiseThreads = 256;

/// target[k] += source[k]. Any grid.
__global__ void __launch_bounds__(kElementwiseThreads)
    add_kernel(float* target, const float* source, std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kElementwiseThreads;
  for (std::uint64_t k = static_cast<std::uint64_t>(blockIdx.x) * kElementwiseThreads + threadIdx.x; k < count;
       k += stride) {
    target[k] += source[k];
  }
}

/// to[k] = value. Any grid.
template <class T>
__global__ void __launch_bounds__(kElementwiseThreads) fill_kernel(T* to, T value, std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kElementwiseThreads;
  for (std::uint64_t k = static_cast<std::uint64_t>(blockIdx.x) * kElementwiseThreads + threadIdx.x; k < count;
       k += stride) {
    to[k] = value;
  }
}

}  // namespace mtadam::kernels
