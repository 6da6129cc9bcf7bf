#pragma once

#include "test/simt/vector_types.h"

namespace simt {

/// What a kernel's code reads of the CUDA thread that it runs as.
struct Thread {
  uint3 index;
  uint3 block;
  dim3 block_size;
  dim3 grid_size;
  unsigned lane;
  unsigned warp;
};

/// The CUDA thread that runs on this host thread; null in host code.
extern constinit thread_local Thread* current_thread;

/// Not a constant expression, since it is none in CUDA.
struct WarpSize {
  operator int() const { return 32; }
};

}  // namespace simt

#define threadIdx (simt::current_thread->index)
#define blockIdx (simt::current_thread->block)
#define blockDim (simt::current_thread->block_size)
#define gridDim (simt::current_thread->grid_size)

inline const simt::WarpSize warpSize{};
