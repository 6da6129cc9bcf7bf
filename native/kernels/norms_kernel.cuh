#pragma once

#include <cstdint>

#include "kernels/cuda_device.cuh"
#include "kernels/layout.h"
#include "kernels/norms.cuh"
#include "kernels/scalars.h"
#include "kernels/sums.cuh"

// Steps 1 to 4 for all layers and all terms of a call, in one launch. Apart from norms.cuh, since one object file alone
// may have the kernel.

namespace mtadam::kernels {

/// Any grid of blocks of kNormThreads.
__global__ void __launch_bounds__(kNormThreads, kNormBlocks) norms_kernel(Tables tables, Call call) {
  const std::uint64_t sums = tables.chunk_count * call.count;
  for (std::uint64_t item = blockIdx.x; item < sums; item += gridDim.x) {
    // The terms of a chunk one after another, so that layers end in the order in which they begin.
    const Chunk chunk = tables.chunks[item / call.count];
    const std::uint32_t term = call.first + static_cast<std::uint32_t>(item % call.count);
    const Tensor& tensor = tables.tensors[chunk.tensor];
    const Layer& layer = tables.layers[tensor.layer];
    const std::uint64_t first = static_cast<std::uint64_t>(chunk.index) * kChunkElements;
    const std::uint64_t left = tensor.length - first;
    const float* const g = gradient_of(tables, call, term, chunk.tensor);
    // An absent tensor's chunks add nothing to a layer in which others are present.
    double sum = 0;
    if (g != nullptr) {
      sum = norms::chunk_sum(g + first, static_cast<std::uint32_t>(left < kChunkElements ? left : kChunkElements));
    }
    if (threadIdx.x == 0) tables.terms[term].partial[tensor.slot + chunk.index] = sum;
    if (is_last(tables.shared.tickets + tensor.layer, layer.slots * call.count)) {
      norms::finish_layer(tables, call, tensor.layer);
    }
    // The next round writes to the shared arrays that some threads may still be reading.
    __syncthreads();
  }
  // Layers without elements have no chunk that could be their last.
  for (std::uint64_t k = blockIdx.x; k < tables.empty_layer_count; k += gridDim.x) {
    norms::finish_layer(tables, call, tables.empty_layers[k]);
    __syncthreads();
  }
}

}  // namespace mtadam::kernels
