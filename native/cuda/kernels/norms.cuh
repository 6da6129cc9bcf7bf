#pragma once

#include <cstdint>

#include "cuda/kernels/narrow_io.cuh"
#include "cuda/kernels/platform.cuh"
#include "cuda/kernels/sums.cuh"
#include "cuda/kernels/vector_io.cuh"
#include "math/lagged.h"
#include "math/network.h"
#include "math/scalars.h"
#include "math/tables.h"

// The segmented norm: steps 1 to 4 of docs/algorithm.md for all layers and all terms of a call, in one launch. A block
// sums the squares of one chunk of one term; the last block of a layer adds up its chunks and does the layer's scalars;
// where the network is one unit, the last block of all does those of the unit.

namespace mtadam::kernels {

constexpr std::uint32_t kNormThreads = 128;

/// Blocks that a multiprocessor must hold: 72 registers a thread, and 112 KB of loads in flight. Left to itself, the
/// compiler takes fewer registers on some architectures and spills.
constexpr std::uint32_t kNormBlocks = 7;
/// The same where the network is one unit, whose code takes a few registers more.
constexpr std::uint32_t kNetworkBlocks = 5;

namespace norms {

constexpr std::uint32_t kSegments = kChunkElements / kSegmentElements;
constexpr std::uint32_t kThreadsPerSegment = kNormThreads / kSegments;  // 8
constexpr std::uint32_t kRow = kThreadsPerSegment * kVector;            // elements that those load at once
constexpr std::uint32_t kRows = kSegmentElements / kRow;                // 8 loads in flight per thread
static_assert(kRow == kChunkLanes, "a thread's vectors must stay in the same lanes");

/// The square is exact in float64, so fusing it into the addition changes no bit.
__device__ __forceinline__ void add_square(double& sum, float value) {
  const double x = static_cast<double>(value);
  sum = fma(x, x, sum);
}

/// Element k of a chunk of `count`; 0 past its end.
template <class Elements>
__device__ __forceinline__ float element(const Elements& chunk, std::uint32_t k, std::uint32_t count) {
  return k < count ? chunk[k] : 0.0f;
}

/// This thread's four lanes of its segment, whose elements all exist. Vectors begin `head` elements into the segment,
/// on a boundary; the last of the eight threads then has the scalars before and behind them.
template <class Elements>
__device__ __forceinline__ void add_whole_segment(double (&sum)[kVector], const Elements& segment, std::uint32_t part,
                                                  std::uint32_t head) {
  const bool wraps = head != 0 && part == kThreadsPerSegment - 1;
  const std::uint32_t split = kVector - head;  // registers from here on have wrapped to the lanes of the next row
#pragma unroll
  for (std::uint32_t q = 0; q < kVector; ++q) {
    if (wraps && q >= split) add_square(sum[q], segment[q - split]);
  }
  const Elements first = segment + head + part * kVector;
  using Row = decltype(load4(first));
  Row rows[kRows];
#pragma unroll
  for (std::uint32_t row = 0; row < kRows; ++row) {
    rows[row] = wraps && row == kRows - 1 ? Row{} : load4(first + row * kRow);
  }
#pragma unroll
  for (std::uint32_t row = 0; row < kRows; ++row) {
#pragma unroll
    for (std::uint32_t q = 0; q < kVector; ++q) add_square(sum[q], value(rows[row], q));
  }
#pragma unroll
  for (std::uint32_t q = 0; q < kVector; ++q) {
    if (wraps && q < split) add_square(sum[q], segment[kSegmentElements - split + q]);
  }
}

/// The same lanes where the tensor ends within the segment or before it.
template <class Elements>
__device__ __forceinline__ void add_short_segment(double (&sum)[kVector], const Elements& chunk, std::uint32_t start,
                                                  std::uint32_t count, std::uint32_t part, std::uint32_t head) {
#pragma unroll
  for (std::uint32_t q = 0; q < kVector; ++q) {
    const std::uint32_t lane = (head + part * kVector + q) % kChunkLanes;
    for (std::uint32_t row = 0; row < kRows; ++row)
      add_square(sum[q], element(chunk, start + row * kRow + lane, count));
  }
}

/// This thread's four lanes of the segment that begins at `start`.
template <class Elements>
__device__ __forceinline__ void add_segment(double (&sum)[kVector], const Elements& chunk, std::uint32_t start,
                                            std::uint32_t count, std::uint32_t part, std::uint32_t head) {
  if (start + kSegmentElements <= count) {
    add_whole_segment(sum, chunk + start, part, head);
  } else {
    add_short_segment(sum, chunk, start, count, part, head);
  }
}

/// The sum of squares of a chunk, in the canonical order; valid in thread 0. All threads may use its shared memory
/// again after a barrier. Without kNarrow, `type` is float32.
template <bool kNarrow>
__device__ inline double chunk_sum(const float* chunk, std::uint32_t count, ElementType type) {
  MTADAM_SHARED(double, lanes, kChunkElements / kSegmentElements * kChunkLanes);
  const std::uint32_t segment = threadIdx.x / kThreadsPerSegment;
  const std::uint32_t part = threadIdx.x % kThreadsPerSegment;
  const std::uint32_t start = segment * kSegmentElements;
  const bool is_narrow = kNarrow && type != ElementType::kFloat32;
  const std::uint32_t head = is_narrow ? short_of_boundary(narrow(chunk, type)) : short_of_boundary(chunk);
  double sum[kVector] = {0, 0, 0, 0};
  if (is_narrow) {
    add_segment(sum, narrow(chunk, type), start, count, part, head);
  } else {
    add_segment(sum, chunk, start, count, part, head);
  }
#pragma unroll
  for (std::uint32_t q = 0; q < kVector; ++q) {
    lanes[segment * kChunkLanes + (head + part * kVector + q) % kChunkLanes] = sum[q];
  }
  __syncthreads();
  double total = 0;
  if (threadIdx.x < kChunkLanes) {
    for (std::uint32_t s = 0; s < kSegments; ++s) total += lanes[s * kChunkLanes + threadIdx.x];
    total = halving_tree(total);
  }
  return total;
}

/// Whether the call brings a gradient of the term for any tensor of the layer; by one warp, the same answer in each of
/// its threads.
__device__ inline bool present(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer,
                               std::uint32_t lane) {
  bool found = false;
  for (std::uint32_t k = lane; k < layer.members; k += kChunkLanes) {
    found |= gradient_of(tables, call, term, tables.members[layer.member + k]) != nullptr;
  }
  return __any_sync(kWholeWarp, found) != 0;
}

/// As for a layer. With one, the kernel spills on compute capability 12.0.
constexpr std::uint32_t kTensorSumsAhead = 2;

/// q of all tensors of a layer in which the term is present, and the sum of q over the layer, by one warp; valid in its
/// first thread. `first_sum`: the sum of squares of a layer of one tensor.
template <bool kLagged>
__device__ inline double record_squares(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer,
                                        double first_sum, bool resting, std::uint32_t lane) {
  const Term& state = tables.terms[term];
  LaneSum sum;
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t index = tables.members[layer.member + k];
    if (gradient_of(tables, call, term, index) != nullptr) {
      const Tensor& tensor = tables.tensors[index];
      const double squares =
          layer.members == 1 ? first_sum
                             : layer_sum<kTensorSumsAhead>(state.partial + tensor.slot, chunks_of(tensor.length), lane);
      if (lane == 0) {
        record_square(tables, term, index, squares, resting || (kLagged && keeps_average(tables, squares)));
      }
    }
    __syncwarp();
    if (index % kChunkLanes == lane) sum.add(index, state.squares[index]);
  }
  return sum.total();
}

/// The norm before the open step from the q of that time, in a layer whose clocks have not advanced, by one warp; valid
/// in its first thread. Where the term had no q: `n`. A loop of its own: in the one above, the kernel spills on compute
/// capability 12.0.
__device__ inline double former_norm(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer,
                                     double n, std::uint32_t lane) {
  LaneSum sum;
  bool existed = false;
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t index = tables.members[layer.member + k];
    if (index % kChunkLanes != lane) continue;
    const FormerSquare former = former_square(tables, term, index, gradient_of(tables, call, term, index) != nullptr);
    sum.add(index, former.q);
    existed |= former.exists;
  }
  existed = __any_sync(kWholeWarp, existed) != 0;
  const double total = sum.total();
  return existed ? sqrt(total) : n;
}

/// Steps 1 and 2 for one layer and all terms of the call, by one block, a warp for each term in turn; in a layer that
/// has joined the network's unit, n is left to finish_network(). Returns whether this thread met a norm that is a
/// reason to go back on other layers.
template <bool kNetwork, bool kLagged>
__device__ inline bool take_norms(const Tables& tables, const Call& call, std::uint32_t layer_index, bool joined) {
  const Layer& layer = tables.layers[layer_index];  // a copy would take the registers that make the kernel spill
  const std::uint32_t lane = threadIdx.x % kChunkLanes;
  bool bad = false;
  for (std::uint32_t k = threadIdx.x / kChunkLanes; k < call.count; k += kNormThreads / kChunkLanes) {
    const std::uint32_t term = call.first + k;
    if (!present(tables, call, term, layer, lane)) continue;
    const double sum = layer_sum<2>(tables.terms[term].partial + layer.slot, layer.slots, lane);
    const auto takes_part = [&] {
      return take_norm(tables, term, layer_index, sum) || (kLagged && skips_elements(tables, call, term, layer_index));
    };
    const bool taken = __any_sync(kWholeWarp, lane == 0 && takes_part()) != 0;
    if (!taken) {
      bad |= !kLagged && (joined || tables.non_finite == NonFinite::kSkipStep);
      continue;
    }
    if constexpr (kNetwork) {
      __syncwarp();  // the first thread's r
      const NormState& norm = tables.terms[term].norms[layer_index];
      const double q = record_squares<kLagged>(tables, call, term, layer, sum, !joined && rests(tables, norm.r), lane);
      if constexpr (kLagged) {
        const double lagged = former_norm(tables, call, term, layer, sqrt(q), lane);
        if (lane == 0) tables.terms[term].lagged_norms[layer_index] = lagged;
      }
      if (lane == 0) record_norm(tables, term, layer_index, joined ? norm.n : sqrt(q));
    } else if constexpr (kLagged) {
      if (lane == 0) record_lagged_norm(tables, term, layer_index);
    } else {
      if (lane == 0) record_norm(tables, term, layer_index, next_norm(tables, term, layer_index));
    }
  }
  return bad;
}

/// Steps 3 and 4 and the clocks for one layer, whose norms are known, by one block; in a layer that has joined the
/// network's unit, s is left to finish_network(). `bad`: the result of take_norms(). False, in every thread, where some
/// norm is a reason to go back on other layers.
template <bool kLagged>
__device__ inline bool scale_and_advance(const Tables& tables, const Call& call, std::uint32_t layer_index, bool joined,
                                         bool bad) {
  const Layer& layer = tables.layers[layer_index];
  MTADAM_SHARED(double, anchor, 1);
  bool withdrawn = false;
  if (threadIdx.x == 0 && !joined) {
    if constexpr (kLagged) {
      anchor[0] = lagged_anchor_of_layer(tables, layer_index);
    } else {
      anchor[0] = anchor_of_layer(tables, call, layer_index, withdrawn);
    }
  }
  __syncthreads();
  for (std::uint32_t k = threadIdx.x; k < call.count && !joined; k += kNormThreads) {
    if constexpr (kLagged) {
      scale_lagged_in_layer(tables, call.first + k, layer_index, anchor[0]);
    } else {
      withdrawn |= scale_in_layer(tables, call, call.first + k, layer_index, anchor[0]);
    }
  }
  bad |= withdrawn && tables.non_finite == NonFinite::kSkipStep;
  const bool good = __syncthreads_or(bad) == 0;  // all scales before the first clock
  const std::uint64_t pairs = std::uint64_t{layer.members} * call.count;
  for (std::uint64_t pair = threadIdx.x; pair < pairs; pair += kNormThreads) {
    const std::uint32_t tensor = tables.members[layer.member + pair / call.count];
    const std::uint32_t term = call.first + static_cast<std::uint32_t>(pair % call.count);
    if (reaches(tables, call, term, tensor, layer_index)) begin_term(tables, term, tensor, layer_index);
  }
  for (std::uint32_t k = threadIdx.x; k < layer.members; k += kNormThreads) {
    begin_shared(tables, call, tables.members[layer.member + k], layer_index);
  }
  return good;
}

/// Decides whether a layer joins the network's unit in the open step, by one block.
__device__ inline bool join(const Tables& tables, std::uint32_t layer_index) {
  if (threadIdx.x == 0) join_network(tables, layer_index);
  __syncthreads();
  return is_joined(tables, layer_index);
}

/// Steps 1 to 4 and the clocks, for one layer and all terms of the call, by one block; n and s are left to
/// finish_network() where the layer is part of the network's unit. False, in every thread, where a norm that is not
/// finite is a reason to go back on other layers. Each stage is a chain of dependent reads, so terms go through it side
/// by side: a warp or a thread each.
template <bool kNetwork, bool kLagged>
__device__ inline bool begin_layer(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  bool joined = false;
  if constexpr (kNetwork) joined = join(tables, layer_index);
  const bool bad = take_norms<kNetwork, kLagged>(tables, call, layer_index, joined);
  __syncthreads();  // all norms before the anchor: it may be any term
  return scale_and_advance<kLagged>(tables, call, layer_index, joined, bad);
}

/// Marks the terms that are not finite somewhere in the network's unit, by one block.
__device__ inline void mark_spoilers(const Tables& tables, const Call& call) {
  const std::uint32_t lane = threadIdx.x % kChunkLanes;
  for (std::uint32_t k = threadIdx.x / kChunkLanes; k < call.count; k += kNormThreads / kChunkLanes) {
    bool found = false;
    for (std::uint32_t layer = lane; layer < tables.layer_count; layer += kChunkLanes) {
      found |= spoils_network(tables, call, call.first + k, layer);
    }
    found = __any_sync(kWholeWarp, found) != 0;
    if (found && lane == 0) mark_withdrawn(tables, call.first + k);
  }
  __syncthreads();
}

/// The norm of a term in the network's unit before the open step, once clocks have advanced, by one warp.
__device__ inline void record_former_norm(const Tables& tables, std::uint32_t term, std::uint32_t lane) {
  LaneSum sum;
  bool existed = false;
  for (std::uint32_t tensor = lane; tensor < tables.tensor_count; tensor += kChunkLanes) {
    if (!is_joined(tables, tables.tensors[tensor].layer)) continue;
    const bool moved = takes_part(tables.terms[term].clocks[tensor], *tables.shared.step);
    const FormerSquare former = former_square(tables, term, tensor, moved);
    sum.add(tensor, former.q);
    existed |= former.exists;
  }
  existed = __any_sync(kWholeWarp, existed) != 0;
  const double total = sum.total();
  if (lane == 0) record_lagged_network(tables, term, existed, total);
}

/// n of one term in the network's unit, by one warp.
template <bool kLagged>
__device__ inline void finish_term(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t lane) {
  LaneSum q, squares;
  bool anywhere = false, here = false;
#pragma unroll 4
  for (std::uint32_t tensor = lane; tensor < tables.tensor_count; tensor += kChunkLanes) {
    const NetworkPart part = network_part(tables, term, tensor);
    q.add(tensor, part.q);
    squares.add(tensor, part.square);
    anywhere |= part.takes_part;
    here |= part.takes_part && part.joined;
  }
  anywhere = __any_sync(kWholeWarp, anywhere) != 0;
  here = __any_sync(kWholeWarp, here) != 0;
  double sum_of_q = q.total();
  const double sum = __shfl_sync(kWholeWarp, squares.total(), 0);
  const bool called = term - call.first < call.count;
  if (called && here && rests(tables, sum)) {
    LaneSum rested;
    for (std::uint32_t tensor = lane; tensor < tables.tensor_count; tensor += kChunkLanes) {
      rest_square(tables, term, tensor);
      rested.add(tensor, network_part(tables, term, tensor).q);
    }
    sum_of_q = rested.total();
  }
  if (lane == 0) record_network(tables, term, sum_of_q);
  if constexpr (kLagged) record_former_norm(tables, term, lane);
  if (lane != 0) return;
  if (called && anywhere) reach_network(tables, term);
  if (called && here) take_network(tables, term, sum);
}

/// n and s of the network's unit, once all layers have begun, by one block. `good`: all norms in the unit are finite.
/// Returns whether no term left float32, in every thread.
template <bool kLagged>
__device__ inline bool finish_network(const Tables& tables, const Call& call, bool good) {
  if (!good) mark_spoilers(tables, call);
  MTADAM_SHARED(double, anchor, 1);
  const std::uint32_t lane = threadIdx.x % kChunkLanes;
  bool scaled = false;
  for (bool left = false;; left = true) {
    if (left || !good) {
      for (std::uint32_t k = threadIdx.x; k < tables.layer_count; k += kNormThreads) {
        withdraw_from(tables, call, k, left);
      }
      __syncthreads();
    }
    for (std::uint32_t term = threadIdx.x / kChunkLanes; term < tables.term_count; term += kNormThreads / kChunkLanes) {
      finish_term<kLagged>(tables, call, term, lane);
    }
    __syncthreads();
    if constexpr (kLagged) {  // no term is withdrawn
      if (threadIdx.x == 0) anchor[0] = lagged_network_anchor(tables);
      __syncthreads();
      for (std::uint32_t k = threadIdx.x; k < call.count; k += kNormThreads) {
        scale_lagged_network(tables, call.first + k, anchor[0]);
      }
      return true;
    }
    if (scaled) return false;
    bool leaves = false;
    if (threadIdx.x == 0) anchor[0] = network_anchor(tables, call, leaves);
    if (__syncthreads_or(leaves) != 0) continue;
    for (std::uint32_t k = threadIdx.x; k < call.count; k += kNormThreads) {
      leaves |= scale_network(tables, call.first + k, anchor[0]);
    }
    if (__syncthreads_or(leaves) == 0) return !left;
    scaled = true;
  }
}

/// Rolls the step back everywhere, by one block.
template <bool kNetwork>
__device__ inline void roll_back(const Tables& tables) {
  for (std::uint32_t k = threadIdx.x; k < tables.layer_count; k += kNormThreads) roll_back_layer(tables, k);
  for (std::uint32_t k = threadIdx.x; k < tables.tensor_count; k += kNormThreads) roll_back_tensor(tables, k);
  for (std::uint32_t k = threadIdx.x; k < tables.term_count && kNetwork; k += kNormThreads) leave_network(tables, k);
}

/// What a block knows of the launch after it has finished a layer.
enum class Layers : int {
  kSomeLeft,  // or another block finishes the last one
  kAllGood,   // no norm is a reason to go back on other layers
  kSomeBad,
};

/// Counts a layer that a block has finished.
__device__ inline Layers count_layer(const Tables& tables, bool good) {
  MTADAM_SHARED(Layers, state, 1);
  __syncthreads();  // what all threads have written to the layer
  if (threadIdx.x == 0) {
    // One counter for both: how many layers are done, and above these 32 bits, how many of them are no good.
    constexpr unsigned long long kBad = 1ull << 32;
    unsigned long long* const ticket = tables.shared.tickets + tables.layer_count + 1;
    const unsigned long long counted = good ? 1 : kBad + 1;
    fence_acq_rel();
    const unsigned long long done = atomicAdd(ticket, counted) + counted;
    const bool last = done % kBad == tables.layer_count;
    if (last) {
      fence_acq_rel();
      *ticket = 0;
    }
    state[0] = !last ? Layers::kSomeLeft : done > kBad ? Layers::kSomeBad : Layers::kAllGood;
  }
  __syncthreads();
  return state[0];
}

/// begin_layer, and whether it was the last one: the block then has to call end_norms().
template <bool kNetwork, bool kLagged>
__device__ inline Layers finish_layer(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const bool good = begin_layer<kNetwork, kLagged>(tables, call, layer_index);
  if (tables.non_finite != NonFinite::kSkipStep && !kNetwork) return Layers::kSomeLeft;
  return count_layer(tables, good);
}

/// Finishes the network's unit, and rolls the step back if some norm is a reason to, by one block.
template <bool kNetwork, bool kLagged>
__device__ inline void end_norms(const Tables& tables, const Call& call, bool good) {
  const bool skips_step = tables.non_finite == NonFinite::kSkipStep;
  if (good || !skips_step) {
    if constexpr (!kNetwork) return;
    if (finish_network<kLagged>(tables, call, good) || !skips_step) return;
  }
  roll_back<kNetwork>(tables);
}

}  // namespace norms

/// Any grid of blocks of kNormThreads; best a block per item, since a block that waits for the count of a layer is then
/// replaced by others. `kNetwork`: whether the network is one unit. `kLagged`: whether scales are lagged. `kNarrow`:
/// whether there are narrow gradients.
template <bool kNetwork, bool kLagged, bool kNarrow>
__global__ void __launch_bounds__(kNormThreads, kNetwork ? kNetworkBlocks : kNormBlocks)
    norms_kernel(Tables tables, Call call) {
  norms::Layers layers = norms::Layers::kSomeLeft;
  const std::uint64_t items = tables.chunk_count * call.count;
  for (std::uint64_t item = blockIdx.x; item < items; item += gridDim.x) {
    // The terms of a chunk come one after another, so that layers end in the order in which they begin. All that the
    // item needs is read before its gradient: after a barrier it would be read again, one round trip after another.
    const Chunk chunk = tables.chunks[item / call.count];
    const std::uint32_t term = call.first + static_cast<std::uint32_t>(item % call.count);
    const Tensor& tensor = tables.tensors[chunk.tensor];
    const std::uint32_t layer = tensor.layer;
    const std::uint32_t count = elements_of_chunk(tensor.length, chunk.index);
    const std::uint64_t expected = tables.layers[layer].slots * call.count;
    double* const partial = tables.terms[term].partial + tensor.slot + chunk.index;
    const ElementType type = kNarrow ? tensor.gradient : ElementType::kFloat32;
    const float* const g = gradient_of(tables, call, term, chunk.tensor);
    // An absent tensor's chunks add nothing to a layer in which others are present.
    const std::uint64_t first = first_of_chunk(chunk.index);
    const double sum =
        g == nullptr ? 0 : norms::chunk_sum<kNarrow>(kNarrow ? gradient_at(tensor, g, first) : g + first, count, type);
    if (threadIdx.x == 0) *partial = sum;
    if (is_last(tables.shared.tickets + layer, expected)) {
      layers = norms::finish_layer<kNetwork, kLagged>(tables, call, layer);
    }
    // The next round writes to the shared arrays that some threads may still be reading.
    __syncthreads();
  }
  // Layers without elements have no chunk that could be their last.
  for (std::uint64_t k = blockIdx.x; k < tables.empty_layer_count; k += gridDim.x) {
    layers = norms::finish_layer<kNetwork, kLagged>(tables, call, tables.empty_layers[k]);
    __syncthreads();
  }
  // After the loops, whose registers are then free. The block that finished the last layer has had no layer since.
  if (layers != norms::Layers::kSomeLeft) {
    norms::end_norms<kNetwork, kLagged>(tables, call, layers == norms::Layers::kAllGood);
  }
}

}  // namespace mtadam::kernels
