#pragma once

#include <cstdint>

#include "cuda/kernels/norms.cuh"
#include "cuda/kernels/update.cuh"
#include "math/lagged.h"

// With lagged scales: a whole step, or one term's part of it, in one launch that reads each gradient once. A block
// takes a chunk: it computes the chunk's scalars from the state as it was before the call, takes steps 5 to 7 of
// docs/algorithm.md and adds up the squares of the same gradients. The last block of a layer does the layer's scalars
// as the norms' kernel does, which writes the state: until then, every block of the layer has read it.
//
// The scales of a layer may wait for a norm of this very step. Its blocks then only add up squares, and the last one
// takes the step of the whole layer alone. That is slow: the host chooses two launches where it knows of the case.
//
// Where the network is one unit, a small launch ahead does the scalars, from the norms before the step, and another one
// behind does the norms. In a layer whose scales wait, one block of the first adds up the squares.

namespace mtadam::kernels {

enum class LaggedMoments : std::uint32_t { kPerTerm, kSummed, kBothSummed };

/// The choices of a kernel that are made at compile time, with the names that update.cuh uses.
template <std::uint32_t kTermCount, LaggedMoments kMoments, bool kAmsgradOn, bool kElementsRest, bool kWholeStep>
struct LaggedForm {
  static constexpr std::uint32_t kTerms = kTermCount;  // at most
  static constexpr bool kSummed = kMoments != LaggedMoments::kPerTerm;
  static constexpr bool kAmsgrad = kAmsgradOn;
  static constexpr bool kGradients = true;
  static constexpr bool kOneX = kSummed && kAmsgrad;
  static constexpr bool kOneV = kMoments == LaggedMoments::kBothSummed;
  static constexpr bool kSkips = kElementsRest;
  static constexpr bool kWhole = kWholeStep;  // else step 6 of one term
  /// Terms that are loaded side by side.
  static constexpr std::uint32_t kGroup = kTermCount < 3 ? kTermCount : 3;
  /// Whole groups: compilers read a part before they know whether there is such a term.
  static constexpr std::uint32_t kParts = (kTermCount + kGroup - 1) / kGroup * kGroup;
  /// Rows of a segment whose loads a thread has in flight: with fewer, those of one term would not hide the latency.
  static constexpr std::uint32_t kRowsAtOnce = kTermCount > 1 ? 1 : kOneV && !kWholeStep ? 4 : 2;
  /// Blocks that a multiprocessor must hold: 128 registers a thread, with which no architecture spills.
  static constexpr std::uint32_t kBlocks = 4;

  using Work = update::Work<LaggedForm>;
  static __device__ update::TermRun part_of(const Tables& tables, const Call& call, std::uint32_t term,
                                            const Chunk& chunk, std::uint64_t open) {
    return update::term_run<LaggedForm>(tables, call, term, chunk, open);
  }
  static __device__ update::TermRun& run_of(update::TermRun& part) { return part; }
  static __device__ void describe(Work& work, const update::TensorRun& run, const Tables&, std::uint64_t) {
    work.run = run;
  }
};

namespace lagged {

using update::Lanes;
using update::Loads;
using update::Step;
using update::TensorRun;
using update::TermRun;
using update::Work;

constexpr std::uint32_t kThreadsPerSegment = norms::kThreadsPerSegment;
constexpr std::uint32_t kSums = norms::kSegments * kChunkLanes;  // of one term
static_assert(kSums == kVector * kNormThreads);

/// Which of its two jobs a pass over a chunk does: to add up the squares, to take the steps from 5 on.
enum class Pass { kBoth, kSquares, kMoments };

/// Where the sum of a segment's lane is kept. Half a warp, which has 16 neighbouring lanes of a segment or every fourth
/// of two neighbouring ones, meets no bank twice.
__device__ __forceinline__ std::uint32_t place_of(std::uint32_t segment, std::uint32_t lane) {
  return segment * kChunkLanes + (lane ^ lane / (kChunkLanes / 2) ^ segment % 2 * 2);
}

/// Whether the scales of a layer wait for a norm of this step; by all threads of a block, with a barrier.
__device__ inline bool scales_wait(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  const std::uint32_t pairs = layer.members * call.count;
  bool waits = false;
  for (std::uint32_t pair = threadIdx.x; pair < pairs; pair += kNormThreads) {
    const std::uint32_t tensor = tables.members[layer.member + pair / call.count];
    waits |= pair_waits(tables, call, call.first + pair % call.count, tensor, layer_index);
  }
  return __syncthreads_or(waits) != 0;
}

/// Fetches the addresses and scalars of a chunk, by one warp. For Pass::kBoth they are computed from the state before
/// the call, unless the network is one unit; for Pass::kMoments they are in the state.
template <class Form>
__device__ inline void fetch(typename Form::Work& work, const Tables& tables, const Call& call, const Chunk& chunk,
                             std::uint64_t open, Pass pass) {
  const std::uint32_t lane = threadIdx.x;
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const std::uint32_t term = call.first + lane;
  const bool ahead = pass == Pass::kBoth && !tables.network;
  // Scalars come first: with addresses beside them, their arithmetic would take most of the kernel's registers.
  const float* g = nullptr;
  if (lane < call.count && pass != Pass::kMoments) g = gradient_of(tables, call, term, chunk.tensor);
  const bool takes = ahead && g != nullptr;
  Coefficients k{};
  if (takes) {
    k = coefficients_ahead(tables, term, chunk.tensor, tensor.layer, lagged_anchor_of_layer(tables, tensor.layer));
  }
  float w = 1;
  Coefficients shared{};
  if constexpr (Form::kWhole) {
    if (__any_sync(kWholeWarp, takes) != 0 && lane == 0) {
      if (tables.shared.divisors != nullptr) w = divisor_ahead(tables, call, chunk.tensor);
      if constexpr (Form::kSummed) shared = shared_coefficients_ahead(tables, chunk.tensor);
    }
  }
  auto part = decltype(Form::part_of(tables, call, term, chunk, open)){};
  TermRun& own = Form::run_of(part);
  if (lane < call.count) {
    part = Form::part_of(tables, call, term, chunk, open);
    if (pass != Pass::kMoments) own.g = g == nullptr ? nullptr : gradient_at(tensor, g, first_of_chunk(chunk.index));
    if (takes) {
      own.present = own.counts = true;
      own.k = k;
    }
  }
  if (lane < Form::kParts) work.parts[lane] = part;
  TensorRun run = update::tensor_run(tables, chunk);
  const unsigned counting = __ballot_sync(kWholeWarp, own.counts);
  run.b = __shfl_sync(kWholeWarp, own.k.b, counting == 0 ? 0 : __ffs(static_cast<int>(counting)) - 1);
  const bool several = __any_sync(kWholeWarp, own.counts && own.k.b != run.b) != 0;
  run.one_b = Form::kOneX || Form::kOneV || !several;
  run.aligned = __any_sync(kWholeWarp, own.g != nullptr && short_of_boundary(own.g) != run.head) == 0;
  run.present = pass != Pass::kSquares && __any_sync(kWholeWarp, own.present) != 0;
  if (lane != 0) return;
  if constexpr (Form::kWhole) {
    if (ahead) {
      run.w = w;
      run.shared = shared;
    }
  } else if constexpr (Form::kSummed) {
    run.opens = ahead ? !takes_part(tables.shared.clocks[chunk.tensor], open)
                      : tables.shared.opener[chunk.tensor] == call.first;
  }
  Form::describe(work, run, tables, open);
}

/// As update::load(), also from addresses that are on no boundary.
template <std::uint32_t kN>
__device__ __forceinline__ Lanes<kN> load_gradient(const float* p, bool aligned) {
  if constexpr (kN > 1) {
    if (!aligned) {
      Lanes<kN> lanes;
#pragma unroll
      for (std::uint32_t j = 0; j < kN; ++j) lanes.e[j] = p[j];
      return lanes;
    }
  }
  return update::load<kN>(p);
}

/// Adds the squares of elements e .. e + kN of a chunk to the sums of one term.
template <std::uint32_t kN>
__device__ __forceinline__ void add_squares(double* sums, const Lanes<kN>& g, std::uint32_t e) {
  const std::uint32_t segment = threadIdx.x / kThreadsPerSegment;
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    norms::add_square(sums[place_of(segment, (e + j) % kChunkLanes)], g.e[j]);
  }
}

/// What elements e .. e + kN need: of so many terms as are loaded side by side, and of the values that all share.
template <class Form, std::uint32_t kN>
struct Loaded {
  Loads<kN> terms[Form::kGroup];
  Lanes<kN> theta, sum, sum_v, sum_x;
};

/// Loads the terms from `first` on.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void load_group(Loaded<Form, kN>& in, const Work<Form>& work, std::uint32_t first,
                                           std::uint32_t terms, std::uint32_t e) {
#pragma unroll
  for (std::uint32_t i = 0; i < Form::kGroup; ++i) {
    in.terms[i] = {};
    if (first + i >= terms) continue;
    const TermRun& part = work.parts[first + i];
    if (part.g != nullptr) in.terms[i].g = load_gradient<kN>(part.g + e, work.run.aligned);
    if (!work.run.present || !part.counts) continue;
    if constexpr (!Form::kSummed) in.terms[i].m = update::load<kN>(part.m + e);
    if constexpr (!Form::kOneV) in.terms[i].v = update::load<kN>(part.v + e);
    if constexpr (Form::kAmsgrad && !Form::kSummed) in.terms[i].x = update::load<kN>(part.x + e);
  }
}

/// Loads what the elements need before any arithmetic; of more terms than one group, the first ones.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ Loaded<Form, kN> load_elements(const Work<Form>& work, std::uint32_t terms,
                                                          std::uint32_t e) {
  const TensorRun& run = work.run;
  Loaded<Form, kN> in;
  load_group<Form, kN>(in, work, 0, terms, e);
  in.theta = in.sum = in.sum_v = in.sum_x = {};
  if (!run.present) return in;
  if constexpr (Form::kWhole) {
    in.theta = update::load<kN>(run.theta + e);
    if constexpr (Form::kSummed) in.sum = update::load<kN>(run.sum + e);
    if constexpr (Form::kOneV) in.sum_v = update::load<kN>(run.sum_v + e);
    if constexpr (Form::kOneX) in.sum_x = update::load<kN>(run.sum_x + e);
  } else if constexpr (Form::kOneV) {
    if (!run.opens) in.sum = update::load<kN>(run.gathered + e);
  } else {
    if (run.group.coupled != 0) in.theta = update::load<kN>(run.theta + e);
    if constexpr (Form::kSummed) in.sum = update::load<kN>(run.sum + e);
  }
  return in;
}

/// A whole step of elements that are loaded. `sums`: those of the first term.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void step_elements(Loaded<Form, kN>& in, const Work<Form>& work, double* sums, Pass pass,
                                              std::uint32_t terms, std::uint32_t e) {
  const TensorRun& run = work.run;
  Step<kN> step{};  // with both moments summed, u is G
  step.sum = in.sum;
  step.largest = in.sum_x;
  const auto add_group = [&](std::uint32_t first) {
#pragma unroll
    for (std::uint32_t i = 0; i < Form::kGroup; ++i) {
      if (pass == Pass::kMoments || first + i >= terms || work.parts[first + i].g == nullptr) continue;
      add_squares<kN>(sums + (first + i) * kSums, in.terms[i].g, e);
    }
    if (!run.present) return;
#pragma unroll
    for (std::uint32_t i = 0; i < Form::kGroup; ++i) {
      if (first + i >= terms) continue;
      const TermRun& part = work.parts[first + i];
      if constexpr (!Form::kOneV) {
        update::add_term<Form, kN>(step, in.terms[i], in.theta, part, run, e);
      } else if (part.present) {
#pragma unroll
        for (std::uint32_t j = 0; j < kN; ++j) {
          const float g = in.terms[i].g.e[j];
          step.u.e[j] = step.started ? added_to_gathered<Form::kSkips>(step.u.e[j], g, part.k.f)
                                     : gathered_share<Form::kSkips>(g, part.k.f);
        }
        step.started = true;
      }
    }
  };
  add_group(0);
  if constexpr (Form::kGroup < Form::kTerms) {
#pragma unroll 1
    for (std::uint32_t first = Form::kGroup; first < terms; first += Form::kGroup) {
      load_group<Form, kN>(in, work, first, terms, e);
      add_group(first);
    }
  }
  if (!run.present) return;
  if constexpr (Form::kOneV) {
    update::move_by_gathered<Form, kN>(step.u, in.sum, in.sum_v, in.sum_x, in.theta, run, e);
  } else {
    update::move<Form, kN>(step, in.theta, run, e);
  }
}

/// Step 6 of one term, which has a gradient for the tensor, for elements that are loaded.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void term_elements(Loaded<Form, kN>& in, const Work<Form>& work, double* sums, Pass pass,
                                              std::uint32_t e) {
  const TensorRun& run = work.run;
  const TermRun& part = work.parts[0];
  const GroupElements& k = run.group;
  const Lanes<kN>& g = in.terms[0].g;
  if (pass != Pass::kMoments) add_squares<kN>(sums, g, e);
  if (!run.present) return;
  if constexpr (Form::kOneV) {
#pragma unroll
    for (std::uint32_t j = 0; j < kN; ++j) {
      in.sum.e[j] = run.opens ? gathered_share<Form::kSkips>(g.e[j], part.k.f)
                              : added_to_gathered<Form::kSkips>(in.sum.e[j], g.e[j], part.k.f);
    }
    update::store<kN>(run.gathered + e, in.sum);
  } else {
    Lanes<kN>& v = in.terms[0].v;
    Lanes<kN>& m = Form::kSummed ? in.sum : in.terms[0].m;
    Lanes<kN>& x = in.terms[0].x;
#pragma unroll
    for (std::uint32_t j = 0; j < kN; ++j) {
      const float ghat = update::gradient(g.e[j], in.theta.e[j], part.k.f, k);
      const bool rests = Form::kSkips && element_rests(g.e[j], part.k.f);
      v.e[j] = unless_resting(rests, v.e[j], second_moment(v.e[j], ghat, k));
      if constexpr (Form::kSummed) {
        const float decayed = run.opens ? decayed_sum(m.e[j], k) : m.e[j];
        m.e[j] = unless_resting(rests, decayed, added_to_sum(decayed, ghat, k));
      } else {
        m.e[j] = unless_resting(rests, m.e[j], first_moment(m.e[j], ghat, k));
      }
      if constexpr (Form::kAmsgrad) x.e[j] = larger(v.e[j], x.e[j]);
    }
    update::store<kN>((Form::kSummed ? run.sum : part.m) + e, m);
    update::store<kN>(part.v + e, v);
    if constexpr (Form::kAmsgrad) update::store<kN>(part.x + e, x);
  }
}

template <class Form, std::uint32_t kN>
__device__ __forceinline__ void take_elements(Loaded<Form, kN>& in, const Work<Form>& work, double* sums, Pass pass,
                                              std::uint32_t terms, std::uint32_t e) {
  if constexpr (Form::kWhole) {
    step_elements<Form, kN>(in, work, sums, pass, terms, e);
  } else {
    term_elements<Form, kN>(in, work, sums, pass, e);
  }
}

/// Elements e .. e + kN of each of kRowsAtOnce rows, whose loads are in flight together.
template <class Form, std::uint32_t kN, std::uint32_t kRowsAtOnce>
__device__ __forceinline__ void elements(const Work<Form>& work, double* sums, Pass pass, std::uint32_t terms,
                                         std::uint32_t e) {
  Loaded<Form, kN> in[kRowsAtOnce];
#pragma unroll
  for (std::uint32_t row = 0; row < kRowsAtOnce; ++row) {
    in[row] = load_elements<Form, kN>(work, terms, e + row * norms::kRow);
  }
#pragma unroll
  for (std::uint32_t row = 0; row < kRowsAtOnce; ++row) {
    take_elements<Form, kN>(in[row], work, sums, pass, terms, e + row * norms::kRow);
  }
}

/// A pass over a chunk. A thread has the same four lanes of its segment as in the norms' kernel, and adds the squares
/// of each lane in the order of the elements. Vectors begin `head` elements into the segment, on θ's boundaries; where
/// that is not 0, the last thread of a segment has single elements before and behind its vectors.
template <class Form>
__device__ __forceinline__ void pass_over(const Work<Form>& work, double* sums, Pass pass, std::uint32_t terms) {
  if (!Form::kWhole && work.parts[0].g == nullptr) return;
  constexpr std::int32_t kStride = norms::kRow, kWide = kVector, kLength = kSegmentElements;
  const std::int32_t count = static_cast<std::int32_t>(work.run.count);
  const std::int32_t head = static_cast<std::int32_t>(work.run.head);
  const std::int32_t part = threadIdx.x % kThreadsPerSegment;
  const std::int32_t start = static_cast<std::int32_t>(threadIdx.x / kThreadsPerSegment) * kLength;
  const std::int32_t end = start + kLength < count ? start + kLength : count;
  const bool wraps = head != 0 && part == static_cast<std::int32_t>(kThreadsPerSegment) - 1;
  std::int32_t e = start + head + part * kWide;
  if (wraps) e -= kStride;
#pragma unroll 1
  while (e < end) {
    if constexpr (Form::kRowsAtOnce > 1) {
      constexpr std::int32_t kAtOnce = Form::kRowsAtOnce;
      if (e >= start && e + (kAtOnce - 1) * kStride + kWide <= end) {
        elements<Form, kVector, Form::kRowsAtOnce>(work, sums, pass, terms, static_cast<std::uint32_t>(e));
        e += kAtOnce * kStride;
        continue;
      }
    }
    if (e >= start && e + kWide <= end) {
      elements<Form, kVector, 1>(work, sums, pass, terms, static_cast<std::uint32_t>(e));
    } else {
#pragma unroll 1
      for (std::int32_t j = e; j < e + kWide; ++j) {
        if (j >= start && j < end) elements<Form, 1, 1>(work, sums, pass, terms, static_cast<std::uint32_t>(j));
      }
    }
    e += kStride;
  }
}

/// Stores the chunk's sum of each term, a warp for each in turn. An absent term's is 0.
__device__ inline void store_sums(const Tables& tables, const Call& call, const Chunk& chunk, const double* sums) {
  const std::uint32_t lane = threadIdx.x % kWarpThreads;
  for (std::uint32_t i = threadIdx.x / kWarpThreads; i < call.count; i += kNormThreads / kWarpThreads) {
    double total = 0;
    for (std::uint32_t s = 0; s < norms::kSegments; ++s) total += sums[i * kSums + place_of(s, lane)];
    total = halving_tree(total);
    if (lane == 0) tables.terms[call.first + i].partial[tables.tensors[chunk.tensor].slot + chunk.index] = total;
  }
}

/// The chunks of a layer, one after another. Before the first next() there is none.
class ChunksOf {
 public:
  __device__ ChunksOf(const Tables& tables, const Layer& layer) : tables_(tables), layer_(layer) {}
  __device__ Chunk chunk() const { return {tables_.members[layer_.member + member_], next_ - 1}; }
  /// False after the last.
  __device__ bool next() {
    while (next_ == chunks_of(tables_.tensors[chunk().tensor].length)) {
      if (++member_ == layer_.members) return false;
      next_ = 0;
    }
    next_ += 1;
    return true;
  }

 private:
  const Tables& tables_;
  const Layer& layer_;
  std::uint32_t member_ = 0, next_ = 0;
};

}  // namespace lagged

/// Steps 1 to 7 for all terms, and the end of the step; or steps 1 to 6 for one term. By blocks of kNormThreads, which
/// together call pass_over(work, sums, pass).
template <class Form, class PassOver>
__device__ __forceinline__ void take_lagged(const Tables& tables, const Call& call, const PassOver& pass_over) {
  using lagged::Pass;
  MTADAM_SHARED(typename Form::Work, work, 1);
  MTADAM_SHARED(double, sums, Form::kTerms* lagged::kSums);
  const std::uint64_t open = *tables.shared.step;
  const auto take = [&](const Chunk& chunk, Pass pass) {
    if (threadIdx.x < kWarpThreads) lagged::fetch<Form>(work[0], tables, call, chunk, open, pass);
    for (std::uint32_t k = threadIdx.x; k < call.count * lagged::kSums; k += kNormThreads) sums[k] = 0;
    __syncthreads();
    pass_over(work[0], sums, pass);
    __syncthreads();
  };
  for (std::uint64_t item = blockIdx.x; item < tables.chunk_count; item += gridDim.x) {
    Chunk chunk = tables.chunks[item];
    const std::uint32_t layer_index = tables.tensors[chunk.tensor].layer;
    const Layer& layer = tables.layers[layer_index];
    const bool has_norms = tables.network && tables.shared.ahead[layer_index] == 0;
    const bool waits = !tables.network && lagged::scales_wait(tables, call, layer_index);
    // One call of take(), since its code is large.
    lagged::ChunksOf others(tables, layer);
    for (Pass pass = has_norms ? Pass::kMoments : waits ? Pass::kSquares : Pass::kBoth;;) {
      take(chunk, pass);
      if (pass != Pass::kMoments) {
        lagged::store_sums(tables, call, chunk, sums);
        __syncthreads();
        if (tables.network || !is_last(tables.shared.tickets + layer_index, layer.slots)) break;
        norms::begin_layer<false, true>(tables, call, layer_index);
        __syncthreads();
        if (!waits) break;
        pass = Pass::kMoments;
      }
      if (has_norms || !others.next()) break;
      chunk = others.chunk();
    }
    __syncthreads();  // the next round writes to the shared arrays
  }
  // Layers without elements have no chunk that could be their last.
  for (std::uint64_t k = blockIdx.x; k < tables.empty_layer_count && !tables.network; k += gridDim.x) {
    norms::begin_layer<false, true>(tables, call, tables.empty_layers[k]);
    __syncthreads();
  }
  if (Form::kWhole && !tables.network) update::end_step(tables, open);
}

/// Any grid, best a block per chunk.
template <class Form>
__global__ void __launch_bounds__(kNormThreads, Form::kBlocks) lagged_kernel(Tables tables, Call call) {
  take_lagged<Form>(tables, call, [&](const typename Form::Work& work, double* sums, lagged::Pass pass) {
    lagged::pass_over<Form>(work, sums, pass, call.count);
  });
}

}  // namespace mtadam::kernels
