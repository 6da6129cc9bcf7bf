#pragma once

#include <cstdint>

#include "kernels/cuda_device.cuh"
#include "kernels/layout.h"
#include "kernels/moments.h"
#include "kernels/scalars.h"
#include "kernels/vector_io.cuh"

// Steps 5 to 7 of docs/algorithm.md: all terms in one pass (resident), or one term's moments (streamed) and then the
// parameters from the moments. A block takes one chunk; a thread four neighbouring elements, 16 bytes per access, of
// one array after another, with all loads ahead of the arithmetic. No double in this file.

namespace mtadam::kernels {

constexpr std::uint32_t kUpdateThreads = 256;

/// The most terms that a kernel unrolls; beyond the last a loop takes one after another. The one for eight serves six
/// and seven, too: a multiprocessor holds as many blocks of it as it would of theirs, and they would be a third of all
/// code.
constexpr std::uint32_t kUnrolledTerms[] = {1, 2, 3, 4, 5, 8};

/// Blocks that a multiprocessor must be able to hold for a thread that reads `loads` vectors at once. It sets the
/// registers that the compiler may take: as many as the loads in flight need. Left to itself, it takes fewer on some
/// architectures and spills.
constexpr std::uint32_t blocks_for(std::uint32_t loads) {
  constexpr std::uint32_t kRegisters = 65536 / kUpdateThreads;
  constexpr std::uint32_t kBeside = 64;
  const std::uint32_t blocks = kRegisters / (kBeside + loads * kVector);
  return blocks == 0 ? 1 : blocks;
}

/// What is fixed when an update kernel is compiled.
template <std::uint32_t kTermCount, bool kSummedMoments, bool kAmsgradOn, bool kWithGradients>
struct UpdateForm {
  static constexpr std::uint32_t kTerms = kTermCount;  // at most; 0: any number
  static constexpr bool kSummed = kSummedMoments;      // M in place of m
  static constexpr bool kAmsgrad = kAmsgradOn;         // x beside v
  static constexpr bool kGradients = kWithGradients;   // resident: the moments have yet to see the gradients
  static constexpr bool kOneX = kSummed && kAmsgrad;   // x is shared, and so is b
  /// Vectors of all unrolled terms that a thread has in flight.
  static constexpr std::uint32_t kLoads =
      (kTermCount == 0 ? 1 : kTermCount) * (1 + (kSummedMoments ? 0 : 1) + (kWithGradients ? 1 : 0) +
                                            (kAmsgradOn && !kSummedMoments && kWithGradients ? 1 : 0));
};

namespace update {

/// kN consecutive elements in registers.
template <std::uint32_t kN>
struct Lanes {
  float e[kN];
};

/// Whether something in the step comes back to what is loaded or stored.
enum class Use { kAgain, kLast };

template <std::uint32_t kN, Use kUse>
__device__ __forceinline__ Lanes<kN> load(const float* p) {
  Lanes<kN> lanes;
  if constexpr (kN == kVector) {
    const Four four = kUse == Use::kLast ? load4_last(p) : load4(p);
#pragma unroll
    for (std::uint32_t k = 0; k < kN; ++k) lanes.e[k] = four.e[k];
  } else {
    lanes.e[0] = *p;
  }
  return lanes;
}

template <std::uint32_t kN, Use kUse>
__device__ __forceinline__ void store(float* p, const Lanes<kN>& lanes) {
  if constexpr (kN == kVector) {
    const Four four{{lanes.e[0], lanes.e[1], lanes.e[2], lanes.e[3]}};
    kUse == Use::kLast ? store4_last(p, four) : store4(p, four);
  } else {
    *p = lanes.e[0];
  }
}

/// One term's part in a chunk.
struct Part {
  const float* g;
  float* m;
  float* v;
  float* x;
  Coefficients k;
  bool present;  // takes part in the open step
  bool counts;   // is part of D
};

/// A chunk, and what all its terms share.
struct Run {
  std::uint32_t count;  // elements
  std::uint32_t head;   // scalars before the first 16-byte boundary
  bool aligned;         // all arrays meet their boundaries at the same elements
  float* theta;
  float* sum;    // M
  float* sum_x;  // the shared x
  float w;       // W; 1 where the step is the sum of the terms' steps
  bool one_b;    // b is the same in all terms that D is taken over: their largest v is found before its root is taken
  float b;       // then, that b
  Coefficients shared;
  GroupElements group;
};

__device__ __forceinline__ float* offset(float* plane, std::uint64_t elements) {
  return plane == nullptr ? nullptr : plane + elements;
}

__device__ inline Run make_run(const Tables& tables, const Chunk& chunk) {
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const std::uint64_t first = static_cast<std::uint64_t>(chunk.index) * kChunkElements;
  const std::uint64_t left = tensor.length - first;
  Run run;
  run.count = static_cast<std::uint32_t>(left < kChunkElements ? left : kChunkElements);
  run.theta = tables.parameters[chunk.tensor] + first;
  run.sum = offset(tables.shared.m, tensor.plane + first);
  run.sum_x = offset(tables.shared.x, tensor.plane + first);
  run.w = tables.shared.shortenings == nullptr ? 1 : tables.shared.shortenings[chunk.tensor].w;
  run.one_b = true;
  run.b = 0;
  run.shared = tables.summed ? tables.shared.coefficients[chunk.tensor] : Coefficients{};
  run.group = tables.group_elements[tensor.group];
  run.head = short_of_boundary(run.theta);
  // The planes were laid out to meet θ's boundaries; gradients are where the caller has them.
  run.aligned = true;
  return run;
}

/// Whether the term is part of D: it takes part, or first moments are summed and it did before.
template <class Form>
__device__ __forceinline__ bool counts(const Clock& clock, std::uint64_t step) {
  return takes_part(clock, step) || (Form::kSummed && !Form::kAmsgrad && clock.t > 0);
}

template <class Form>
__device__ inline Part make_part(const Tables& tables, const Call& call, std::uint32_t term, const Chunk& chunk,
                                 std::uint64_t step) {
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const Term& state = tables.terms[term];
  const Clock& clock = state.clocks[chunk.tensor];
  const std::uint64_t first = static_cast<std::uint64_t>(chunk.index) * kChunkElements;
  const std::uint64_t at = tensor.plane + first;
  Part part;
  part.present = takes_part(clock, step);
  part.counts = counts<Form>(clock, step);
  part.g = Form::kGradients && part.present ? gradient_of(tables, call, term, chunk.tensor) + first : nullptr;
  part.m = offset(state.m, at);
  part.v = offset(state.v, at);
  part.x = offset(state.x, at);
  part.k = state.coefficients[chunk.tensor];
  return part;
}

/// Whether the largest v is found before its root is taken. One term alone shares its b with nobody.
template <class Form>
__device__ __forceinline__ bool has_one_b(const Run& run) {
  return Form::kTerms == 1 || run.one_b;
}

/// ĝ of one element. The branch is the same for all elements of a tensor.
__device__ __forceinline__ float gradient(float g, float theta, float f, const GroupElements& k) {
  return k.coupled != 0 ? balanced_gradient<true>(g, theta, f, k) : balanced_gradient<false>(g, theta, f, k);
}

/// What each of kN elements gives D where terms do not share b. Every element in turn goes through the first register,
/// since the code is in every kernel once per term: unrolled, it would be half of each.
template <std::uint32_t kN>
__device__ __forceinline__ Lanes<kN> denominators(Lanes<kN> v, float b, const GroupElements& k) {
#pragma unroll 1
  for (std::uint32_t done = 0; done < kN; ++done) {
    const float first = denominator(v.e[0], b, k);
#pragma unroll
    for (std::uint32_t j = 0; j + 1 < kN; ++j) v.e[j] = v.e[j + 1];
    v.e[kN - 1] = first;
  }
  return v;
}

/// U and D of kN elements while terms are added to them.
template <std::uint32_t kN>
struct Step {
  Lanes<kN> u;
  Lanes<kN> d;        // with one b, what is under the largest root
  Lanes<kN> sum;      // M
  Lanes<kN> largest;  // the shared x
  bool opened;        // M has decayed
  bool started;       // some term is part of U and D
};

/// What one term reads: all of it before any arithmetic.
template <std::uint32_t kN>
struct Loads {
  Lanes<kN> g, m, v, x;
};

template <class Form, std::uint32_t kN>
__device__ __forceinline__ void load_part(Loads<kN>& in, const Part& part, std::uint32_t e) {
  if (!part.counts) return;
  if (Form::kGradients && part.present) in.g = load<kN, Use::kLast>(part.g + e);
  if constexpr (!Form::kSummed) in.m = load<kN, Use::kLast>(part.m + e);
  // From the moments alone, the per-term x is all that counts; of the shared one, v still has its share to give.
  if constexpr (Form::kGradients || !Form::kAmsgrad || Form::kSummed) in.v = load<kN, Use::kLast>(part.v + e);
  if constexpr (Form::kAmsgrad && !Form::kSummed) in.x = load<kN, Use::kLast>(part.x + e);
}

/// Step 6 for a term that brings a gradient, then its part of U and D.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void add_part(Step<kN>& step, Loads<kN>& in, const Lanes<kN>& theta, const Part& part,
                                         const Run& run, std::uint32_t e) {
  if (!part.counts) return;
  const GroupElements& k = run.group;
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    if (Form::kGradients && part.present) {
      const float ghat = gradient(in.g.e[j], theta.e[j], part.k.f, k);
      in.v.e[j] = second_moment(in.v.e[j], ghat, k);
      if constexpr (Form::kSummed) {
        const float sum = step.opened ? step.sum.e[j] : decayed_sum(step.sum.e[j], k);
        step.sum.e[j] = added_to_sum(sum, ghat, k);
      } else {
        in.m.e[j] = first_moment(in.m.e[j], ghat, k);
        if constexpr (Form::kAmsgrad) in.x.e[j] = larger(in.v.e[j], in.x.e[j]);
      }
    }
    if constexpr (Form::kOneX) step.largest.e[j] = larger(in.v.e[j], step.largest.e[j]);
    if constexpr (!Form::kSummed) {
      const float own = step_part(in.m.e[j], part.k.c);
      step.u.e[j] = step.started ? step.u.e[j] + own : own;
    }
  }
  if constexpr (!Form::kOneX) {
    Lanes<kN> bound = Form::kAmsgrad ? in.x : in.v;
    if (!has_one_b<Form>(run)) bound = denominators(bound, part.k.b, k);
#pragma unroll
    for (std::uint32_t j = 0; j < kN; ++j) {
      step.d.e[j] = step.started ? larger(bound.e[j], step.d.e[j]) : bound.e[j];
    }
  }
  if (Form::kGradients && part.present) {
    store<kN, Use::kLast>(part.v + e, in.v);
    if constexpr (!Form::kSummed) store<kN, Use::kLast>(part.m + e, in.m);
    if constexpr (Form::kAmsgrad && !Form::kSummed) store<kN, Use::kLast>(part.x + e, in.x);
    step.opened = true;
  }
  step.started = true;
}

/// Step 7, once U and D are complete.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void move(Step<kN>& step, const Lanes<kN>& theta, const Run& run, std::uint32_t e) {
  const GroupElements& k = run.group;
  Lanes<kN> out;
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    const float u = Form::kSummed ? step_part(step.sum.e[j], run.shared.c) : step.u.e[j];
    const float d = Form::kOneX            ? denominator(step.largest.e[j], run.shared.b, k)
                    : has_one_b<Form>(run) ? denominator(step.d.e[j], run.b, k)
                                           : step.d.e[j];
    const float q = run.w != 1 ? adam_step<true>(u, d, run.w) : adam_step<false>(u, d, run.w);
    out.e[j] = k.decoupled != 0 ? moved<true>(theta.e[j], q, k) : moved<false>(theta.e[j], q, k);
  }
  if constexpr (Form::kSummed && Form::kGradients) store<kN, Use::kLast>(run.sum + e, step.sum);
  if constexpr (Form::kOneX) store<kN, Use::kLast>(run.sum_x + e, step.largest);
  store<kN, Use::kAgain>(run.theta + e, out);  // by the next forward pass
}

/// Elements e .. e + kN with every term's part at hand: all loads first.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void update_unrolled(const Run& run, const Part* parts, std::uint32_t e) {
  Loads<kN> in[Form::kTerms];
#pragma unroll
  for (std::uint32_t i = 0; i < Form::kTerms; ++i) load_part<Form, kN>(in[i], parts[i], e);
  Step<kN> step{};
  if constexpr (Form::kSummed) step.sum = load<kN, Use::kLast>(run.sum + e);
  if constexpr (Form::kOneX) step.largest = load<kN, Use::kLast>(run.sum_x + e);
  const Lanes<kN> theta = load<kN, Use::kLast>(run.theta + e);
#pragma unroll
  for (std::uint32_t i = 0; i < Form::kTerms; ++i) add_part<Form, kN>(step, in[i], theta, parts[i], run, e);
  move<Form, kN>(step, theta, run, e);
}

/// The same for any number of terms, one after another. `part_of(i)` is the i-th term's part.
template <class Form, std::uint32_t kN, class PartOf>
__device__ __forceinline__ void update_looped(const Run& run, std::uint32_t terms, const PartOf& part_of,
                                              std::uint32_t e) {
  Step<kN> step{};
  if constexpr (Form::kSummed) step.sum = load<kN, Use::kLast>(run.sum + e);
  if constexpr (Form::kOneX) step.largest = load<kN, Use::kLast>(run.sum_x + e);
  const Lanes<kN> theta = load<kN, Use::kLast>(run.theta + e);
#pragma unroll 1
  for (std::uint32_t i = 0; i < terms; ++i) {
    const Part& part = part_of(i);
    Loads<kN> in;
    load_part<Form, kN>(in, part, e);
    add_part<Form, kN>(step, in, theta, part, run, e);
  }
  move<Form, kN>(step, theta, run, e);
}

/// Whether all gradients of the tensor meet the boundaries of θ, whether its terms share b, and whether any is present;
/// for any number of terms. The same answer in every thread.
template <class Form>
__device__ inline bool survey(const Tables& tables, const Call& call, const Chunk& chunk, std::uint64_t open,
                              Run& run) {
  int present = 0;
  int misaligned = 0;
  int several = 0;
  std::uint32_t first = 0;
  while (first < tables.term_count && !counts<Form>(tables.terms[first].clocks[chunk.tensor], open)) ++first;
  if (first == tables.term_count) return false;
  run.b = tables.terms[first].coefficients[chunk.tensor].b;
  for (std::uint32_t term = first + threadIdx.x; term < tables.term_count; term += kUpdateThreads) {
    const Clock& clock = tables.terms[term].clocks[chunk.tensor];
    if (!counts<Form>(clock, open)) continue;
    several |= tables.terms[term].coefficients[chunk.tensor].b != run.b;
    if (!takes_part(clock, open)) continue;
    present = 1;
    if constexpr (Form::kGradients) {
      misaligned |= short_of_boundary(gradient_of(tables, call, term, chunk.tensor)) != run.head;
    }
  }
  run.aligned = __syncthreads_or(misaligned) == 0;
  run.one_b = Form::kOneX || __syncthreads_or(several) == 0;
  return __syncthreads_or(present) != 0;
}

/// The same from the parts of all terms.
template <class Form>
__device__ inline bool survey(const Part* parts, Run& run) {
  bool present = false;
  bool counted = false;
#pragma unroll
  for (std::uint32_t i = 0; i < Form::kTerms; ++i) {
    if (!parts[i].counts) continue;
    if (counted && parts[i].k.b != run.b) run.one_b = false;
    if (!counted) run.b = parts[i].k.b;
    counted = true;
    if (!parts[i].present) continue;
    present = true;
    if (Form::kGradients && short_of_boundary(parts[i].g) != run.head) run.aligned = false;
  }
  return present;
}

/// Calls four(e) for vectors that begin on a boundary, one(e) for the elements before and behind them; one(e) for all
/// where arrays do not agree on the boundaries.
template <class One, class FourAtOnce>
__device__ __forceinline__ void for_elements(const Run& run, const One& one, const FourAtOnce& four) {
  if (!run.aligned) {
    for (std::uint32_t e = threadIdx.x; e < run.count; e += kUpdateThreads) one(e);
    return;
  }
  const std::uint32_t head = run.head < run.count ? run.head : run.count;
  const std::uint32_t vectors = (run.count - head) / kVector;
  for (std::uint32_t k = threadIdx.x; k < vectors; k += kUpdateThreads) four(head + k * kVector);
  const std::uint32_t tail = head + vectors * kVector;
  const std::uint32_t k = threadIdx.x;
  if (k < head) one(k);
  if (tail + k < run.count) one(tail + k);
}

template <class Form>
__device__ inline void update_chunk(const Tables& tables, const Call& call, const Chunk& chunk, std::uint64_t open) {
  Run run = make_run(tables, chunk);
  if constexpr (Form::kTerms == 0) {
    if (!survey<Form>(tables, call, chunk, open, run)) return;
    const auto part_of = [&](std::uint32_t i) { return make_part<Form>(tables, call, i, chunk, open); };
    for_elements(
        run, [&](std::uint32_t e) { update_looped<Form, 1>(run, tables.term_count, part_of, e); },
        [&](std::uint32_t e) { update_looped<Form, kVector>(run, tables.term_count, part_of, e); });
  } else {
    // Once per block: as registers of every thread, the addresses alone would take a hundred.
    MTADAM_SHARED(Part, parts, Form::kTerms);
    if (threadIdx.x < Form::kTerms) {
      const bool has = threadIdx.x < tables.term_count;
      parts[threadIdx.x] = has ? make_part<Form>(tables, call, threadIdx.x, chunk, open) : Part{};
    }
    __syncthreads();
    if (!survey<Form>(parts, run)) return;
    // Single elements are few, and unrolled they would double the code.
    const auto part_of = [&](std::uint32_t i) -> const Part& { return parts[i]; };
    for_elements(
        run, [&](std::uint32_t e) { update_looped<Form, 1>(run, Form::kTerms, part_of, e); },
        [&](std::uint32_t e) { update_unrolled<Form, kVector>(run, parts, e); });
  }
}

/// Step 6 for kN elements of one term that brings a gradient.
template <bool kSummed, bool kAmsgrad, std::uint32_t kN>
__device__ __forceinline__ void moments_elements(const Run& run, const Part& part, bool opens, std::uint32_t e) {
  const GroupElements& k = run.group;
  const Lanes<kN> g = load<kN, Use::kLast>(part.g + e);
  Lanes<kN> v = load<kN, Use::kAgain>(part.v + e);
  Lanes<kN> m = load<kN, Use::kAgain>((kSummed ? run.sum : part.m) + e);
  Lanes<kN> x{};
  // The shared x takes its share of v in the update.
  if constexpr (kAmsgrad && !kSummed) x = load<kN, Use::kAgain>(part.x + e);
  Lanes<kN> theta{};
  if (k.coupled != 0) theta = load<kN, Use::kAgain>(run.theta + e);
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    const float ghat = gradient(g.e[j], theta.e[j], part.k.f, k);
    v.e[j] = second_moment(v.e[j], ghat, k);
    if constexpr (kSummed) {
      m.e[j] = added_to_sum(opens ? decayed_sum(m.e[j], k) : m.e[j], ghat, k);
    } else {
      m.e[j] = first_moment(m.e[j], ghat, k);
      if constexpr (kAmsgrad) x.e[j] = larger(v.e[j], x.e[j]);
    }
  }
  store<kN, Use::kAgain>(part.v + e, v);
  store<kN, Use::kAgain>((kSummed ? run.sum : part.m) + e, m);
  if constexpr (kAmsgrad && !kSummed) store<kN, Use::kAgain>(part.x + e, x);
}

template <bool kSummed, bool kAmsgrad>
__device__ inline void moments_chunk(const Tables& tables, const Call& call, const Chunk& chunk, std::uint64_t open) {
  const Part part = make_part<UpdateForm<1, kSummed, kAmsgrad, true>>(tables, call, call.first, chunk, open);
  if (!part.present) return;
  Run run = make_run(tables, chunk);
  run.aligned = short_of_boundary(part.g) == run.head;
  const bool opens = kSummed && tables.shared.opener[chunk.tensor] == call.first;
  for_elements(
      run, [&](std::uint32_t e) { moments_elements<kSummed, kAmsgrad, 1>(run, part, opens, e); },
      [&](std::uint32_t e) { moments_elements<kSummed, kAmsgrad, kVector>(run, part, opens, e); });
}

}  // namespace update

/// Steps 5 to 7 for all terms, or step 7 from the moments; then the step is over. Any grid of blocks of
/// kUpdateThreads. Chunks are taken the other way round than by the launch before, whose last are still in the
/// second-level cache: backwards after norms (gradients), forwards after moments (moments).
template <class Form>
__global__ void __launch_bounds__(kUpdateThreads, blocks_for(Form::kLoads)) update_kernel(Tables tables, Call call) {
  const std::uint64_t open = *tables.shared.step;
  for (std::uint64_t item = blockIdx.x; item < tables.chunk_count; item += gridDim.x) {
    const std::uint64_t chunk = Form::kGradients ? tables.chunk_count - 1 - item : item;
    update::update_chunk<Form>(tables, call, tables.chunks[chunk], open);
    __syncthreads();  // before the next chunk's parts take the place of these
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence();
  // The last block to end ends the step: every other has read its number.
  if (atomicAdd(tables.shared.tickets + tables.layer_count, 1ull) == gridDim.x - 1) {
    __threadfence();
    tables.shared.tickets[tables.layer_count] = 0;
    *tables.shared.step = open + 1;
  }
}

/// Steps 5 and 6 for one term (call.count is 1).
template <bool kSummed, bool kAmsgrad>
__global__ void __launch_bounds__(kUpdateThreads, blocks_for(4)) moments_kernel(Tables tables, Call call) {
  const std::uint64_t open = *tables.shared.step;
  for (std::uint64_t item = blockIdx.x; item < tables.chunk_count; item += gridDim.x) {
    update::moments_chunk<kSummed, kAmsgrad>(tables, call, tables.chunks[tables.chunk_count - 1 - item], open);
  }
}

}  // namespace mtadam::kernels
