#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Plain CUDA under nvcc. For any other compiler the tests put their host executor in place of the toolkit's headers:
// the same kernel source then runs one fiber per CUDA thread.

#if defined(__CUDACC__)
/// An array in shared memory. A macro, since the executor has to know of each.
#  define MTADAM_SHARED(type, name, count) __shared__ type name[count]
#endif

namespace mtadam::kernels {

constexpr std::uint32_t kWarpThreads = 32;
constexpr unsigned kWholeWarp = 0xffffffff;

/// Orders all accesses before it ahead of all accesses after it, for all blocks. Cheaper than __threadfence(), which is
/// sequentially consistent.
__device__ __forceinline__ void fence_acq_rel() {
#if defined(__CUDACC__)
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
#else
  __threadfence();
#endif
}

}  // namespace mtadam::kernels
