#pragma once

// The one header that means plain CUDA under nvcc and the host executor under any other compiler: the same kernel
// source runs on a GPU and, one fiber per CUDA thread, in the tests.

#if defined(__CUDACC__)
#  include <cuda_runtime.h>

/// An array in shared memory. A macro, since the executor has to know of each.
#  define MTADAM_SHARED(type, name, count) __shared__ type name[count]

// What a thread that waits for another block polls with, and what that one tells it with. Under the executor they let
// the other threads run.

__device__ __forceinline__ unsigned long long load_acquire(const unsigned long long* address) {
  unsigned long long value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_release(unsigned long long* address, unsigned long long value) {
  asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
#else
#  include "test/simt/device.h"
#endif
