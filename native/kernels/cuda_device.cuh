#pragma once

#include <cstdint>

// The one header that means plain CUDA under nvcc and the host executor under any other compiler: the same kernel
// source runs on a GPU and, one fiber per CUDA thread, in the tests.

#if defined(__CUDACC__)
#  include <cuda_runtime.h>

/// An array in shared memory. A macro, since the executor has to know of each.
#  define MTADAM_SHARED(type, name, count) __shared__ type name[count]

/// Orders all accesses before it ahead of all accesses after it, for all blocks. Cheaper than __threadfence(), which is
/// sequentially consistent.
__device__ __forceinline__ void fence_acq_rel() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
#else
#  include "test/simt/device.h"
inline void fence_acq_rel() { __threadfence(); }
#endif

namespace mtadam::kernels {

constexpr std::uint32_t kWarpThreads = 32;
constexpr unsigned kWholeWarp = 0xffffffff;

}  // namespace mtadam::kernels
