#pragma once

#include "test/simt/device.h"

// Kernels for the executor's own tests, with one of each feature of real ones: vector loads with a scalar head and
// tail, sums over a warp, a block and a grid, tickets and fences, counters that blocks wait for.

namespace toy {

constexpr int kBlock = 128;
constexpr int kChunk = 4096;
constexpr int kMaxArrays = 24;

struct Arrays {
  const float* data[kMaxArrays];
  int length[kMaxArrays];
  int first_chunk[kMaxArrays + 1];
  int count;
};

// ---- The sum of squares of several arrays, each cut into chunks ----

__device__ __forceinline__ float warp_sum(float x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

__device__ inline float block_sum(float x) {
  MTADAM_SHARED(float, warps, kBlock / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  x = warp_sum(x);
  __syncthreads();  // an earlier sum may still be read
  if (lane == 0) warps[warp] = x;
  __syncthreads();  // all warps have written
  x = lane < kBlock / 32 ? warps[lane] : 0.0f;
  return warp_sum(x);
}

__device__ inline float chunk_sum(const float* data, int length) {
  const int misalignment = static_cast<int>(reinterpret_cast<unsigned long long>(data) % 16 / sizeof(float));
  const int head = min(length, (4 - misalignment) % 4);
  const int vectors = (length - head) / 4;
  const int tail = head + vectors * 4;
  const int first = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  for (int k = first; k < head; k += kBlock) sum += data[k] * data[k];
  const float4* body = reinterpret_cast<const float4*>(data + head);
  for (int k = first; k < vectors; k += kBlock) {
    const float4 v = body[k];
    sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  for (int k = tail + first; k < length; k += kBlock) {
    sum += data[k] * data[k];
  }
  return sum;
}

__global__ void __launch_bounds__(kBlock) norms(Arrays arrays, float* partial, unsigned* tickets, float* squares) {
  MTADAM_SHARED(bool, is_last, 1);
  const int chunk = static_cast<int>(blockIdx.x);
  int array = 0;
  while (chunk >= arrays.first_chunk[array + 1]) ++array;
  const int begin = (chunk - arrays.first_chunk[array]) * kChunk;
  const int length = min(kChunk, arrays.length[array] - begin);

  const float sum = block_sum(chunk_sum(arrays.data[array] + begin, length));
  const int chunks = arrays.first_chunk[array + 1] - arrays.first_chunk[array];
  if (threadIdx.x == 0) {
    partial[chunk] = sum;
    __threadfence();
    is_last[0] = atomicAdd(&tickets[array], 1u) == static_cast<unsigned>(chunks) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last[0]) return;

  float total = 0.0f;
  float finite = 0.0f;
  for (int k = static_cast<int>(threadIdx.x); k < chunks; k += kBlock) {
    const float part = partial[arrays.first_chunk[array] + k];
    total += part;
    finite += part - part == 0.0f ? 1.0f : 0.0f;
  }
  total = block_sum(total);
  finite = block_sum(finite);
  if (threadIdx.x == 0) {
    squares[array] = finite == static_cast<float>(chunks) ? total : -1.0f;
    tickets[array] = 0;
  }
}

// ---- One kernel that computes norms and then scales; scaling blocks wait for all norms ----

struct Progress {
  unsigned ticket;
  unsigned done;
};

__global__ void __launch_bounds__(kBlock) normalise(float* data, int chunks, float* partial, Progress* progress) {
  MTADAM_SHARED(unsigned, ticket, 1);
  const int thread = static_cast<int>(threadIdx.x);
  for (;;) {
    __syncthreads();  // the last ticket has been read
    if (threadIdx.x == 0) ticket[0] = atomicAdd(&progress->ticket, 1u);
    __syncthreads();
    const int work = static_cast<int>(ticket[0]);
    if (work >= 2 * chunks) return;
    if (work < chunks) {
      const float x = data[work * kBlock + thread];
      const float sum = block_sum(x * x);
      if (threadIdx.x == 0) {
        partial[work] = sum;
        add_release(&progress->done, 1u);
      }
    } else {
      if (threadIdx.x == 0) {
        while (load_acquire(&progress->done) < static_cast<unsigned>(chunks)) __nanosleep(100);
      }
      __syncthreads();
      float total = 0.0f;
      for (int k = 0; k < chunks; ++k) total += partial[k];
      data[(work - chunks) * kBlock + thread] /= sqrtf(total);
    }
  }
}

}  // namespace toy
