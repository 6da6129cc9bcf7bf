#pragma once

#include <cstdint>

#include "cuda/kernels/lagged.cuh"

// The launches around lagged_kernel where the network is one unit. Apart: a kernel that is no template may be part of
// one source only.

namespace mtadam::kernels {

namespace lagged {

/// Steps 3 and 4 and the clocks of one layer, from the norms before the step, by one block.
__device__ inline void begin_layer_ahead(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  const std::uint32_t lane = threadIdx.x % kWarpThreads;
  const bool joined = norms::join(tables, layer_index);
  for (std::uint32_t k = threadIdx.x / kWarpThreads; k < call.count; k += kNormThreads / kWarpThreads) {
    const std::uint32_t term = call.first + k;
    if (!norms::present(tables, call, term, layer, lane)) continue;
    const Term& state = tables.terms[term];
    for (std::uint32_t member = lane; member < layer.members; member += kWarpThreads) {
      const std::uint32_t tensor = tables.members[layer.member + member];
      if (gradient_of(tables, call, term, tensor) != nullptr) state.former_squares[tensor] = state.squares[tensor];
    }
    __syncwarp();
    const double former = norms::former_norm(tables, call, term, layer, 0, lane);
    if (lane != 0) continue;
    expect_norm(tables, term, layer_index);
    state.norms[layer_index].r = NAN;  // an r of 0 that is left from a step before would make the unit rest
    state.lagged_norms[layer_index] = former;
  }
  __syncthreads();  // all norms before the anchor
  norms::scale_and_advance<true>(tables, call, layer_index, joined, false);
}

/// The sums of squares of all chunks of a layer and all terms of the call, by one block.
__device__ inline void sum_layer(const Tables& tables, const Call& call, const Layer& layer) {
  for (ChunksOf chunks(tables, layer); chunks.next();) {
    const Chunk chunk = chunks.chunk();
    const Tensor& tensor = tables.tensors[chunk.tensor];
    const std::uint32_t count = elements_of_chunk(tensor.length, chunk.index);
    for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
      const float* const g = gradient_of(tables, call, term, chunk.tensor);
      const double sum = g == nullptr ? 0
                                      : norms::chunk_sum<true>(gradient_at(tensor, g, first_of_chunk(chunk.index)),
                                                               count, tensor.gradient);
      if (threadIdx.x == 0) tables.terms[term].partial[tensor.slot + chunk.index] = sum;
      __syncthreads();
    }
  }
}

/// n, r and s of the network's unit, to all layers that show them, by one block.
__device__ inline void show_network(const Tables& tables, const Call& call) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
#pragma unroll 4
    for (std::uint32_t layer = threadIdx.x; layer < tables.layer_count; layer += kNormThreads) {
      mtadam::show_network(tables, term, layer);
    }
  }
}

}  // namespace lagged

/// Blocks that a multiprocessor must hold: 128 registers a thread, with which no architecture spills.
constexpr std::uint32_t kNetworkBeginBlocks = 4;

/// Where the network is one unit, ahead of lagged_kernel: steps 3 and 4 and the clocks, from the norms before the step;
/// steps 1 to 4 of a layer whose scales wait. Any grid of blocks of kNormThreads, best a block per layer.
__global__ void __launch_bounds__(kNormThreads, kNetworkBeginBlocks) network_begin_kernel(Tables tables, Call call) {
  norms::Layers layers = norms::Layers::kSomeLeft;
  for (std::uint32_t layer_index = blockIdx.x; layer_index < tables.layer_count; layer_index += gridDim.x) {
    const Layer& layer = tables.layers[layer_index];
    const bool ahead = layer.slots > 0 && !lagged::scales_wait(tables, call, layer_index);
    if (threadIdx.x == 0) tables.shared.ahead[layer_index] = ahead ? 1 : 0;
    if (ahead) {
      lagged::begin_layer_ahead(tables, call, layer_index);
    } else {
      if (layer.slots > 0) lagged::sum_layer(tables, call, layer);
      norms::begin_layer<true, true>(tables, call, layer_index);
    }
    layers = norms::count_layer(tables, true);
  }
  // r and n follow in network_end_kernel.
  if (layers != norms::Layers::kSomeLeft) norms::finish_network<true>(tables, call, true);
}

/// Behind lagged_kernel: steps 1 and 2 of the layers that have begun ahead, and the end of a whole step. Any grid of
/// blocks of kNormThreads.
template <bool kWhole>
__global__ void __launch_bounds__(kNormThreads, kNetworkBlocks) network_end_kernel(Tables tables, Call call) {
  norms::Layers layers = norms::Layers::kSomeLeft;
  for (std::uint32_t layer = blockIdx.x; layer < tables.layer_count; layer += gridDim.x) {
    if (tables.shared.ahead[layer] != 0) {
      norms::take_norms<true, true>(tables, call, layer, is_joined(tables, layer));
    }
    layers = norms::count_layer(tables, true);
  }
  if (layers == norms::Layers::kSomeLeft) return;
  norms::finish_network<true>(tables, call, true);
  __syncthreads();
  lagged::show_network(tables, call);
  if constexpr (!kWhole) return;
  __syncthreads();
  if (threadIdx.x == 0) *tables.shared.step += 1;
}

}  // namespace mtadam::kernels
