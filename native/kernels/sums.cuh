#pragma once

#include <cstdint>

#include "kernels/cuda_device.cuh"
#include "kernels/layout.h"

// What the kernels that add in float64 share: the halving tree over a chunk's lanes, and how the last block of a layer
// is found. Double belongs in them and not in the update, so they are compiled apart from it.

namespace mtadam::kernels {

static_assert(kChunkLanes == 32, "a thread of a warp per lane");

/// Adds up the lanes of a warp, all of whose threads take part; valid in the first.
__device__ __forceinline__ double halving_tree(double lane) {
  for (std::uint32_t half = kChunkLanes / 2; half > 0; half /= 2) lane += __shfl_down_sync(0xffffffffu, lane, half);
  return lane;
}

/// Counts one more of a layer's `expected` parts as done. True, in every thread, for the block that counted the last
/// of them: then all that the others had written before they counted can be read.
__device__ inline bool is_last(unsigned long long* ticket, std::uint64_t expected) {
  MTADAM_SHARED(int, last, 1);
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = atomicAdd(ticket, 1ull) == expected - 1;
    __threadfence();
    if (last[0]) *ticket = 0;  // nobody else counts here before the next launch
  }
  __syncthreads();
  return last[0] != 0;
}

}  // namespace mtadam::kernels
