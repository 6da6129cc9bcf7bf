#pragma once

#include <cstdint>

#include "cuda/kernels/platform.cuh"
#include "math/tables.h"

// For the kernels that add in float64: the sums over a chunk's and a layer's lanes, and how the last block of a layer
// is found. The update uses no double, so it is compiled apart from them.

namespace mtadam::kernels {

static_assert(kChunkLanes == kWarpThreads, "a thread of a warp per lane");

/// Adds up the lanes of a warp, all of whose threads take part; valid in the first.
__device__ __forceinline__ double halving_tree(double lane) {
  for (std::uint32_t half = kChunkLanes / 2; half > 0; half /= 2) lane += __shfl_down_sync(kWholeWarp, lane, half);
  return lane;
}

/// A thread of a warp has so many of a layer's lanes: those that are its number modulo 32.
constexpr std::uint32_t kQuarters = kLayerLanes / kChunkLanes;
static_assert(kQuarters == 4);

/// Adds up the lanes of a layer; valid in the first thread. All threads of the warp take part.
__device__ __forceinline__ double sum_of_quarters(const double (&lanes)[kQuarters]) {
  return halving_tree((lanes[0] + lanes[2]) + (lanes[1] + lanes[3]));
}

/// The canonical sum over the lanes of a layer or a unit, by one warp: a thread has the values k that are its number
/// modulo 32, in order.
class LaneSum {
 public:
  __device__ void add(std::uint32_t k, double value) {
    const std::uint32_t quarter = k / kChunkLanes % kQuarters;
#pragma unroll
    for (std::uint32_t q = 0; q < kQuarters; ++q) {
      if (q == quarter) lanes_[q] += value;
    }
  }
  /// Valid in the first thread. All threads of the warp take part.
  __device__ double total() const { return sum_of_quarters(lanes_); }

 private:
  double lanes_[kQuarters] = {};
};

/// The sum of a layer from its chunks', in the canonical order, by one warp; valid in its first thread. A thread has
/// four of the layer's lanes, and kAhead rounds of loads in flight: one by one, those of a layer of 50 million elements
/// would take 100 µs. Other blocks wrote the chunks' sums: they are read past the first-level cache.
template <std::uint32_t kAhead>
__device__ inline double layer_sum(const double* chunks, std::uint64_t slots, std::uint32_t lane) {
  double lanes[kQuarters] = {};
  for (std::uint64_t first = lane; first < slots; first += kAhead * kLayerLanes) {
    double ahead[kAhead * kQuarters];
#pragma unroll
    for (std::uint32_t k = 0; k < kAhead * kQuarters; ++k) {
      const std::uint64_t q = first + k * kChunkLanes;
      if (q < slots) ahead[k] = __ldcg(chunks + q);
    }
#pragma unroll
    for (std::uint32_t k = 0; k < kAhead * kQuarters; ++k) {
      if (first + k * kChunkLanes < slots) lanes[k % kQuarters] += ahead[k];
    }
  }
  return sum_of_quarters(lanes);
}

/// Counts one more of a layer's `expected` parts as done. True, in every thread, for the block that counts the last of
/// them: it can read all that the others wrote before they counted.
__device__ inline bool is_last(unsigned long long* ticket, std::uint64_t expected) {
  MTADAM_SHARED(int, last, 1);
  if (threadIdx.x == 0) {
    fence_acq_rel();
    const bool is = atomicAdd(ticket, 1ull) == expected - 1;
    if (is) {
      fence_acq_rel();
      *ticket = 0;  // nobody else counts here before the next launch
    }
    last[0] = is;
  }
  __syncthreads();
  return last[0] != 0;
}

}  // namespace mtadam::kernels
