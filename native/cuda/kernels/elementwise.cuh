#pragma once

#include <cstdint>

#include "cuda/kernels/platform.cuh"
#include "math/element_types.h"
#include "math/scalars.h"
#include "math/tables.h"

// Kernels for buffers, apart from a step.

namespace mtadam::kernels {

constexpr std::uint32_t kElementwiseThreads = 256;

/// Additions of a thread whose loads are on their way at once: one alone has too few bytes in flight.
constexpr std::uint32_t kAddsAhead = 4;

/// target[k] += source[k]. Any grid.
__global__ void __launch_bounds__(kElementwiseThreads)
    add_kernel(float* target, const float* source, std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kElementwiseThreads;
  for (std::uint64_t k = static_cast<std::uint64_t>(blockIdx.x) * kElementwiseThreads + threadIdx.x; k < count;
       k += kAddsAhead * stride) {
    float sums[kAddsAhead];
#pragma unroll
    for (std::uint32_t j = 0; j < kAddsAhead; ++j) {
      const std::uint64_t at = k + j * stride;
      if (at < count) sums[j] = target[at] + source[at];
    }
#pragma unroll
    for (std::uint32_t j = 0; j < kAddsAhead; ++j) {
      const std::uint64_t at = k + j * stride;
      if (at < count) target[at] = sums[j];
    }
  }
}

/// The same for a narrow type, rounded to nearest.
__global__ void __launch_bounds__(kElementwiseThreads)
    add_narrow_kernel(std::uint16_t* target, const std::uint16_t* source, std::uint64_t count, ElementType type) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kElementwiseThreads;
  for (std::uint64_t k = static_cast<std::uint64_t>(blockIdx.x) * kElementwiseThreads + threadIdx.x; k < count;
       k += stride) {
    target[k] = static_cast<std::uint16_t>(nearest(type, decoded(type, target[k]) + decoded(type, source[k])));
  }
}

/// Sets the gradients of the call to 0, a chunk of one term at a time. Any grid. `kNarrow`: whether there are narrow
/// ones.
template <bool kNarrow>
__global__ void __launch_bounds__(kElementwiseThreads) zero_kernel(Tables tables, Call call) {
  for (std::uint64_t item = blockIdx.x; item < tables.chunk_count * call.count; item += gridDim.x) {
    const Chunk& chunk = tables.chunks[item % tables.chunk_count];
    const std::uint32_t term = call.first + static_cast<std::uint32_t>(item / tables.chunk_count);
    // A call only reads gradients; zero() comes from their owner.
    float* const g = const_cast<float*>(gradient_of(tables, call, term, chunk.tensor));
    if (g == nullptr) continue;
    const Tensor& tensor = tables.tensors[chunk.tensor];
    const std::uint32_t count = elements_of_chunk(tensor.length, chunk.index);
    if (kNarrow && tensor.gradient != ElementType::kFloat32) {
      auto* const codes = reinterpret_cast<std::uint16_t*>(g) + first_of_chunk(chunk.index);
      for (std::uint32_t k = threadIdx.x; k < count; k += kElementwiseThreads) codes[k] = 0;
      continue;
    }
    for (std::uint32_t k = threadIdx.x; k < count; k += kElementwiseThreads) g[first_of_chunk(chunk.index) + k] = 0;
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

/// to[k] = the bfloat16 nearest to from[k]. Any grid.
__global__ void __launch_bounds__(kElementwiseThreads)
    narrow_kernel(std::uint16_t* to, const float* from, std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kElementwiseThreads;
  for (std::uint64_t k = static_cast<std::uint64_t>(blockIdx.x) * kElementwiseThreads + threadIdx.x; k < count;
       k += stride) {
    to[k] = static_cast<std::uint16_t>(nearest_bfloat16(from[k]));
  }
}

/// to[k] = from[k], of a narrow type. Any grid.
__global__ void __launch_bounds__(kElementwiseThreads)
    widen_kernel(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * kElementwiseThreads;
  for (std::uint64_t k = static_cast<std::uint64_t>(blockIdx.x) * kElementwiseThreads + threadIdx.x; k < count;
       k += stride) {
    to[k] = decoded(type, from[k]);
  }
}

}  // namespace mtadam::kernels
