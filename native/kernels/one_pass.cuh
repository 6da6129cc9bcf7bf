#pragma once

#include <cstdint>

#include "kernels/cuda_device.cuh"
#include "kernels/layout.h"
#include "kernels/norms.cuh"
#include "kernels/sums.cuh"
#include "kernels/update.cuh"

// A whole resident step in one launch. A block takes one ticket after another: a chunk's norms, or a chunk's elements,
// which wait for the norms of their layer. The order of the tickets (engine/ticket_order.h) has a layer's elements soon
// after its norms, so that its gradients are read from the second-level cache the second time. Norms need no more than
// the tickets before them, and these are held by blocks that run: whichever block waits, the one with the earliest
// ticket does not, so the step gets on however few blocks run at once. Of the double in this file none is the update's.

namespace mtadam::kernels {

/// Of a block: a thread per lane of a layer's sum.
constexpr std::uint32_t kOnePassThreads = kNormThreads;

/// The most terms that a kernel takes: two of them, so that the norms, which each has within it, are not in the binary
/// once per number of terms.
constexpr std::uint32_t kFewTerms = 2, kMoreTerms = 4;

template <std::uint32_t kTerms, bool kSummed>
using OnePassForm = UpdateForm<kTerms, kSummed, false, true, kOnePassThreads>;

/// Blocks that a multiprocessor holds. A few registers more than the update alone needs.
template <class Form>
constexpr std::uint32_t kOnePassBlocks = blocks_for(Form::kLoads + 4, kOnePassThreads);

namespace one_pass {

/// The number of the block's next ticket, in every thread. No thread is at work on the last one any more.
__device__ inline std::uint64_t take_ticket(const Tables& tables) {
  MTADAM_SHARED(unsigned long long, ticket, 1);
  __syncthreads();
  if (threadIdx.x == 0) ticket[0] = atomicAdd(tables.one_pass.taken, 1ull);
  __syncthreads();
  return ticket[0];
}

/// Steps 1 to 4 and the clocks of a layer, for those who wait for them.
__device__ inline void open_layer(const Tables& tables, const Call& call, std::uint32_t layer, std::uint64_t open) {
  norms::begin_layer(tables, call, layer);
  __syncthreads();  // all threads' clocks are written
  if (threadIdx.x == 0) store_release(tables.one_pass.ready + layer, open);
}

/// The sums of squares of a chunk, all terms'. True, in every thread, for the last of a layer.
__device__ inline bool sum_chunk(const Tables& tables, const Call& call, const Chunk& chunk) {
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const std::uint64_t first = static_cast<std::uint64_t>(chunk.index) * kChunkElements;
  const std::uint64_t left = tensor.length - first;
  const std::uint32_t count = static_cast<std::uint32_t>(left < kChunkElements ? left : kChunkElements);
#pragma unroll 1
  for (std::uint32_t term = 0; term < call.count; ++term) {
    const float* const g = gradient_of(tables, call, term, chunk.tensor);
    const double sum = g == nullptr ? 0 : norms::chunk_sum(g + first, count);
    if (threadIdx.x == 0) tables.terms[term].partial[tensor.slot + chunk.index] = sum;
    __syncthreads();  // before the next term's lanes take the place of these
  }
  return is_last(tables.shared.tickets + tensor.layer, tables.layers[tensor.layer].slots);
}

/// Returns when a layer has been opened.
__device__ inline void wait_for(const unsigned long long* ready, std::uint64_t open) {
  constexpr unsigned kNanoseconds = 100;
  if (threadIdx.x == 0) {
    while (load_acquire(ready) != open) __nanosleep(kNanoseconds);
  }
  __syncthreads();
}

}  // namespace one_pass

/// Steps 1 to 7 for all terms, which are the call's; then the step is over. Any grid of blocks of kOnePassThreads; more
/// of them than run at once have nothing to do. Not where a norm can take the step back: all layers' would have to be
/// known.
template <class Form>
__global__ void __launch_bounds__(kOnePassThreads, kOnePassBlocks<Form>) one_pass_kernel(Tables tables, Call call) {
  const std::uint64_t open = *tables.shared.step;
  for (;;) {
    const std::uint64_t number = one_pass::take_ticket(tables);
    if (number >= tables.one_pass.count) break;
    const Ticket ticket = tables.one_pass.tickets[number];
    const std::uint32_t layer = tables.tensors[ticket.chunk.tensor].layer;
    if (ticket.part == Ticket::Part::kElements) {
      one_pass::wait_for(tables.one_pass.ready + layer, open);
      update::update_chunk<Form>(tables, call, ticket.chunk, open);
    } else if (ticket.part == Ticket::Part::kEmptyLayer || one_pass::sum_chunk(tables, call, ticket.chunk)) {
      one_pass::open_layer(tables, call, layer, open);
    }
  }
  if (end_step(tables, open)) *tables.one_pass.taken = 0;
}

}  // namespace mtadam::kernels
