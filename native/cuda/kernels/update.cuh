#pragma once

#include <cstdint>

#include "cuda/kernels/platform.cuh"
#include "cuda/kernels/vector_io.cuh"
#include "math/moments.h"
#include "math/network.h"
#include "math/scalars.h"
#include "math/tables.h"

// Steps 5 to 7 of docs/algorithm.md: all terms in one pass (resident), or one term's moments (streamed) and then the
// parameters from the moments. A block takes one chunk after another; a thread four neighbouring elements, 16 bytes per
// access, of one array after another, with all loads ahead of the arithmetic. One more warp fetches the addresses and
// scalars of the next chunk meanwhile: three dependent reads, in which a block would otherwise stand still. No double
// in this file.

namespace mtadam::kernels {

constexpr std::uint32_t kUpdateThreads = 224;  // at work on elements
constexpr std::uint32_t kUpdateBlockThreads = kUpdateThreads + kWarpThreads;

/// The most terms that a kernel unrolls; beyond the last a loop takes one after another. The one for eight serves six
/// and seven, too: a multiprocessor holds as many blocks of it as it would of theirs, and they would be a third of all
/// code.
constexpr std::uint32_t kUnrolledTerms[] = {1, 2, 3, 4, 5, 8};

/// Blocks that a multiprocessor holds of threads that take so many registers. A kernel's launch bounds say so: left to
/// itself, the compiler takes fewer registers than the loads in flight need on some architectures, and spills.
constexpr std::uint32_t blocks_for(std::uint32_t registers) {
  const std::uint32_t blocks = 65536 / kUpdateBlockThreads / registers;
  return blocks == 0 ? 1 : blocks;
}

/// The choices of an update kernel that are made at compile time.
template <std::uint32_t kTermCount, bool kSummedMoments, bool kAmsgradOn, bool kWithGradients, bool kSharedV = false,
          bool kElementsRest = false>
struct UpdateForm {
  static constexpr std::uint32_t kTerms = kTermCount;  // at most; 0: any number
  static constexpr bool kSummed = kSummedMoments;      // M in place of m
  static constexpr bool kAmsgrad = kAmsgradOn;         // x beside v
  static constexpr bool kGradients = kWithGradients;   // resident: the moments have yet to see the gradients
  static constexpr bool kOneX = kSummed && kAmsgrad;   // x is shared, and so is b
  static constexpr bool kOneV = kSharedV;              // V in place of v; with kSummed
  static constexpr bool kSkips = kElementsRest;        // elements whose gradients cannot be used keep their moments
  /// Terms that are loaded side by side.
  static constexpr std::uint32_t kGroup = kTermCount != 0 ? kTermCount : kAmsgradOn && !kSummedMoments ? 3 : 4;
  /// Terms whose parts are fetched ahead; those beyond are read by every thread that needs them.
  static constexpr std::uint32_t kParts = kTermCount == 0 ? 32 : kTermCount;
  /// Vectors that a thread has in flight.
  static constexpr std::uint32_t kLoads = kOneV ? (kWithGradients ? kGroup : 1) + 1 + (kAmsgradOn ? 1 : 0)
                                                : kGroup * (1 + (kSummedMoments ? 0 : 1) + (kWithGradients ? 1 : 0) +
                                                            (kAmsgradOn && !kSummedMoments && kWithGradients ? 1 : 0));
  static constexpr std::uint32_t kBlocks = blocks_for((kWithGradients ? 64 : 56) + kLoads * kVector);
};

namespace update {

/// kN consecutive elements in registers.
template <std::uint32_t kN>
struct Lanes {
  float e[kN];
};

template <std::uint32_t kN>
__device__ __forceinline__ Lanes<kN> load(const float* p) {
  Lanes<kN> lanes;
  if constexpr (kN == kVector) {
    const Four four = load4(p);
#pragma unroll
    for (std::uint32_t k = 0; k < kN; ++k) lanes.e[k] = four.e[k];
  } else {
    lanes.e[0] = *p;
  }
  return lanes;
}

template <std::uint32_t kN>
__device__ __forceinline__ void store(float* p, const Lanes<kN>& lanes) {
  if constexpr (kN == kVector) {
    const Four four{{lanes.e[0], lanes.e[1], lanes.e[2], lanes.e[3]}};
    store4(p, four);
  } else {
    *p = lanes.e[0];
  }
}

/// One term's part in a chunk.
struct TermRun {
  const float* g;
  float* m;
  float* v;
  float* x;
  Coefficients k;
  bool present;  // takes part in the open step
  bool counts;   // is part of D
};

/// A chunk, and the values that all its terms share.
struct TensorRun {
  Chunk chunk;
  bool present;         // some term takes part
  bool opens;           // of one term's moments: the term is the first of the step, so M decays
  std::uint32_t count;  // elements
  std::uint32_t head;   // scalars before the first 16-byte boundary
  bool aligned;         // all arrays meet their boundaries at the same elements
  float* theta;
  float* sum;       // M
  float* sum_v;     // V
  float* sum_x;     // the shared x
  float* gathered;  // G
  float w;          // W; 1 where the step is the sum of the terms' steps
  bool one_b;  // b is the same in all terms that D is taken over: their largest v is found before its root is taken
  float b;     // then, that b
  Coefficients shared;
  GroupElements group;
};

__device__ __forceinline__ float* offset(float* plane, std::uint64_t elements) {
  return plane == nullptr ? nullptr : plane + elements;
}

__device__ inline TensorRun tensor_run(const Tables& tables, const Chunk& chunk) {
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const std::uint64_t first = first_of_chunk(chunk.index);
  TensorRun run{};
  run.chunk = chunk;
  run.count = elements_of_chunk(tensor.length, chunk.index);
  run.theta = tables.parameters[chunk.tensor] + first;  // lean.cuh replaces it where θ is narrow
  run.sum = offset(tables.shared.m, tensor.plane + first);
  run.sum_v = offset(tables.shared.v, tensor.plane + first);
  run.sum_x = offset(tables.shared.x, tensor.plane + first);
  if (tables.shared.gathered != nullptr) run.gathered = tables.shared.gathered + tensor.gathered + first;
  run.w = tables.shared.divisors == nullptr ? 1 : tables.shared.divisors[chunk.tensor].w;
  run.one_b = true;
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
  return takes_part(clock, step) || (Form::kSummed && !Form::kAmsgrad && !Form::kOneV && clock.t > 0);
}

template <class Form>
__device__ inline TermRun term_run(const Tables& tables, const Call& call, std::uint32_t term, const Chunk& chunk,
                                   std::uint64_t step) {
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const Term& state = tables.terms[term];
  const Clock& clock = state.clocks[chunk.tensor];
  const std::uint64_t first = first_of_chunk(chunk.index);
  const std::uint64_t at = tensor.plane + first;
  TermRun part;
  part.present = takes_part(clock, step);
  part.counts = counts<Form>(clock, step);
  part.g = Form::kGradients && part.present ? gradient_of(tables, call, term, chunk.tensor) : nullptr;
  // A graph of the user's may run while a term is accumulated for which it has no gradient. What it does then is not
  // defined, so it may read any memory that is there.
  if (Form::kGradients && part.g == nullptr) part.g = tables.parameters[chunk.tensor];
  if (Form::kGradients) part.g += first;
  part.m = offset(state.m, at);
  part.v = offset(state.v, at);
  part.x = offset(state.x, at);
  part.k = state.coefficients[chunk.tensor];
  if (Form::kGradients && tables.network) part.k.f = factor_of(tables, state, part.k, tensor.layer);
  return part;
}

/// Whether the largest v is found before its root is taken. One term alone shares its b with nobody.
template <class Form>
__device__ __forceinline__ bool has_one_b(const TensorRun& run) {
  return Form::kTerms == 1 || run.one_b;
}

/// ĝ of one element. The branch is the same for all elements of a tensor.
__device__ __forceinline__ float gradient(float g, float theta, float f, const GroupElements& k) {
  return k.coupled != 0 ? balanced_gradient<true>(g, theta, f, k) : balanced_gradient<false>(g, theta, f, k);
}

/// Step 6 of one element where both moments are summed, from G.
__device__ __forceinline__ void move_moments(float& m, float& v, float gathered, float theta, const GroupElements& k) {
  const float ghat =
      k.coupled != 0 ? decayed_gradient<true>(gathered, theta, k) : decayed_gradient<false>(gathered, theta, k);
  m = first_moment(m, ghat, k);
  v = second_moment(v, ghat, k);
}

/// The denominators of kN elements where terms do not share b. Every element in turn goes through the first register,
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
  Lanes<kN> d;        // with one b, the radicand of the largest root
  Lanes<kN> sum;      // M
  Lanes<kN> largest;  // the shared x
  bool opened;        // M has decayed
  bool started;       // some term is part of U and D
};

/// The elements that one term reads, all before any arithmetic.
template <std::uint32_t kN>
struct Loads {
  Lanes<kN> g, m, v, x;
};

template <class Form, std::uint32_t kN>
__device__ __forceinline__ void load_term(Loads<kN>& in, const TermRun& part, std::uint32_t e) {
  if (!part.counts) return;
  if (Form::kGradients && part.present) in.g = load<kN>(part.g + e);
  if constexpr (!Form::kSummed) in.m = load<kN>(part.m + e);
  // From the moments alone, the per-term x is all that counts; of the shared one, v still has its share to give.
  if constexpr (Form::kGradients || !Form::kAmsgrad || Form::kSummed) in.v = load<kN>(part.v + e);
  if constexpr (Form::kAmsgrad && !Form::kSummed) in.x = load<kN>(part.x + e);
}

/// Step 6 for a term that brings a gradient, then its part of U and D.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void add_term(Step<kN>& step, Loads<kN>& in, const Lanes<kN>& theta, const TermRun& part,
                                         const TensorRun& run, std::uint32_t e) {
  if (!part.counts) return;
  const GroupElements& k = run.group;
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    if (Form::kGradients && part.present) {
      const float ghat = gradient(in.g.e[j], theta.e[j], part.k.f, k);
      const bool rests = Form::kSkips && element_rests(in.g.e[j], part.k.f);
      in.v.e[j] = unless_resting(rests, in.v.e[j], second_moment(in.v.e[j], ghat, k));
      if constexpr (Form::kSummed) {
        const float sum = step.opened ? step.sum.e[j] : decayed_sum(step.sum.e[j], k);
        step.sum.e[j] = unless_resting(rests, sum, added_to_sum(sum, ghat, k));
      } else {
        in.m.e[j] = unless_resting(rests, in.m.e[j], first_moment(in.m.e[j], ghat, k));
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
    store<kN>(part.v + e, in.v);
    if constexpr (!Form::kSummed) store<kN>(part.m + e, in.m);
    if constexpr (Form::kAmsgrad && !Form::kSummed) store<kN>(part.x + e, in.x);
    step.opened = true;
  }
  step.started = true;
}

/// Step 7, once U and D are complete.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void move(Step<kN>& step, const Lanes<kN>& theta, const TensorRun& run, std::uint32_t e) {
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
  if constexpr (Form::kSummed && Form::kGradients) store<kN>(run.sum + e, step.sum);
  if constexpr (Form::kOneX) store<kN>(run.sum_x + e, step.largest);
  store<kN>(run.theta + e, out);
}

/// Elements e .. e + kN, kGroup terms at a time: all their loads first. `part_of(i)` is the i-th term's part.
template <class Form, std::uint32_t kN, std::uint32_t kGroup, class PartOf>
__device__ __forceinline__ void update_elements(const TensorRun& run, std::uint32_t terms, const PartOf& part_of,
                                                std::uint32_t e) {
  Step<kN> step{};
  Lanes<kN> theta;
  const auto load_shared = [&] {
    if constexpr (Form::kSummed) step.sum = load<kN>(run.sum + e);
    if constexpr (Form::kOneX) step.largest = load<kN>(run.sum_x + e);
    theta = load<kN>(run.theta + e);
  };
  const auto group = [&](std::uint32_t first, bool with_shared) {
    Loads<kN> in[kGroup];
    // Not every compiler sees that what is used below was loaded. Where all terms are unrolled it costs too much.
    if constexpr (kGroup != Form::kTerms || kN == 1) {
      for (Loads<kN>& each : in) each = {};
    }
#pragma unroll
    for (std::uint32_t j = 0; j < kGroup; ++j) {
      if (first + j < terms) load_term<Form, kN>(in[j], part_of(first + j), e);
    }
    if (with_shared) load_shared();
#pragma unroll
    for (std::uint32_t j = 0; j < kGroup; ++j) {
      if (first + j < terms) add_term<Form, kN>(step, in[j], theta, part_of(first + j), run, e);
    }
  };
  if constexpr (kGroup == Form::kTerms) {
    group(0, true);
  } else {
    load_shared();
#pragma unroll 1
    for (std::uint32_t first = 0; first < terms; first += kGroup) group(first, false);
  }
  move<Form, kN>(step, theta, run, e);
}

/// Step 7 of elements e .. e + kN where both moments are summed, from G.
template <class Form, std::uint32_t kN>
__device__ __forceinline__ void move_by_gathered(const Lanes<kN>& gathered, Lanes<kN> m, Lanes<kN> v, Lanes<kN> x,
                                                 Lanes<kN> theta, const TensorRun& run, std::uint32_t e) {
  const GroupElements& k = run.group;
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    move_moments(m.e[j], v.e[j], gathered.e[j], theta.e[j], k);
    if constexpr (Form::kAmsgrad) x.e[j] = larger(v.e[j], x.e[j]);
    const float u = step_part(m.e[j], run.shared.c);
    const float d = denominator(Form::kAmsgrad ? x.e[j] : v.e[j], run.shared.b, k);
    const float q = run.w != 1 ? adam_step<true>(u, d, run.w) : adam_step<false>(u, d, run.w);
    theta.e[j] = k.decoupled != 0 ? moved<true>(theta.e[j], q, k) : moved<false>(theta.e[j], q, k);
  }
  store<kN>(run.sum + e, m);
  store<kN>(run.sum_v + e, v);
  if constexpr (Form::kAmsgrad) store<kN>(run.sum_x + e, x);
  store<kN>(run.theta + e, theta);
}

/// Elements e .. e + kN where both moments are summed: G of the terms, or as it was gathered, then Adam's step.
template <class Form, std::uint32_t kN, std::uint32_t kGroup, class PartOf>
__device__ __forceinline__ void adam_elements(const TensorRun& run, std::uint32_t terms, const PartOf& part_of,
                                              std::uint32_t e) {
  Lanes<kN> sum{}, m, v, x{}, theta;
  const auto load_shared = [&] {
    m = load<kN>(run.sum + e);
    v = load<kN>(run.sum_v + e);
    if constexpr (Form::kAmsgrad) x = load<kN>(run.sum_x + e);
    theta = load<kN>(run.theta + e);
  };
  bool started = false;
  const auto group = [&](std::uint32_t first, bool with_shared) {
    Lanes<kN> g[kGroup];
#pragma unroll
    for (std::uint32_t i = 0; i < kGroup; ++i) {
      g[i] = {};
      if (first + i < terms && part_of(first + i).present) g[i] = load<kN>(part_of(first + i).g + e);
    }
    if (with_shared) load_shared();
#pragma unroll
    for (std::uint32_t i = 0; i < kGroup; ++i) {
      if (first + i >= terms || !part_of(first + i).present) continue;
      const float f = part_of(first + i).k.f;
#pragma unroll
      for (std::uint32_t j = 0; j < kN; ++j) {
        sum.e[j] = started ? added_to_gathered<Form::kSkips>(sum.e[j], g[i].e[j], f)
                           : gathered_share<Form::kSkips>(g[i].e[j], f);
      }
      started = true;
    }
  };
  if constexpr (!Form::kGradients) {
    sum = load<kN>(run.gathered + e);
    load_shared();
  } else if constexpr (kGroup == Form::kTerms) {
    group(0, true);
  } else {
    load_shared();
#pragma unroll 1
    for (std::uint32_t first = 0; first < terms; first += kGroup) group(first, false);
  }
  move_by_gathered<Form, kN>(sum, m, v, x, theta, run, e);
}

/// update_elements() or adam_elements(), by the form.
template <class Form, std::uint32_t kN, std::uint32_t kGroup, class PartOf>
__device__ __forceinline__ void elements(const TensorRun& run, std::uint32_t terms, const PartOf& part_of,
                                         std::uint32_t e) {
  if constexpr (Form::kOneV) {
    adam_elements<Form, kN, kGroup>(run, terms, part_of, e);
  } else {
    update_elements<Form, kN, kGroup>(run, terms, part_of, e);
  }
}

/// The addresses and scalars of a chunk, for the threads of a block.
template <class Form>
struct Work {
  TensorRun run;
  TermRun parts[Form::kParts];
};

/// Fetches the addresses and scalars of a chunk for the terms from `first` on, by one warp.
template <class Form>
__device__ inline void fetch(Work<Form>& work, const Tables& tables, const Call& call, std::uint32_t first,
                             std::uint32_t terms, const Chunk& chunk, std::uint64_t open) {
  const std::uint32_t lane = threadIdx.x % kWarpThreads;
  TensorRun run = tensor_run(tables, chunk);
  bool counted = false, several = false, present = false, misaligned = false;
  for (std::uint32_t base = 0; base < terms; base += kWarpThreads) {
    const std::uint32_t k = base + lane;
    const TermRun part = k < terms ? term_run<Form>(tables, call, first + k, chunk, open) : TermRun{};
    if (k < Form::kParts) work.parts[k] = part;
    if (Form::kGradients && tables.network && k < terms && chunk.index == 0) {
      show_network(tables, first + k, tables.tensors[chunk.tensor].layer);
    }
    const unsigned counting = __ballot_sync(kWholeWarp, part.counts);
    if (counting == 0) continue;
    const float b = __shfl_sync(kWholeWarp, part.k.b, __ffs(static_cast<int>(counting)) - 1);
    if (!counted) run.b = b;
    counted = true;
    several |= part.counts && part.k.b != run.b;
    present |= part.present;
    misaligned |= Form::kGradients && part.present && short_of_boundary(part.g) != run.head;
  }
  run.one_b = Form::kOneX || Form::kOneV || __any_sync(kWholeWarp, several) == 0;
  run.aligned = __any_sync(kWholeWarp, misaligned) == 0;
  run.present = __any_sync(kWholeWarp, present) != 0;
  if (lane == 0) work.run = run;
}

/// Calls four(e) for vectors that begin on a boundary, one(e) for the elements before and behind them; one(e) for all
/// where arrays do not agree on the boundaries.
template <class One, class FourAtOnce>
__device__ __forceinline__ void for_elements(const TensorRun& run, const One& one, const FourAtOnce& four) {
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
__device__ inline void update_chunk(const Tables& tables, const Call& call, const Work<Form>& work,
                                    std::uint64_t open) {
  const TensorRun run = work.run;
  if (!run.present) return;
  // Single elements are few: unrolled, they would double the code.
  if constexpr (Form::kTerms == 0) {
    const auto part_of = [&](std::uint32_t i) {
      return i < Form::kParts ? work.parts[i] : term_run<Form>(tables, call, i, run.chunk, open);
    };
    for_elements(
        run, [&](std::uint32_t e) { elements<Form, 1, 1>(run, tables.term_count, part_of, e); },
        [&](std::uint32_t e) { elements<Form, kVector, Form::kGroup>(run, tables.term_count, part_of, e); });
  } else {
    const auto part_of = [&](std::uint32_t i) -> const TermRun& { return work.parts[i]; };
    for_elements(
        run, [&](std::uint32_t e) { elements<Form, 1, 1>(run, Form::kTerms, part_of, e); },
        [&](std::uint32_t e) { elements<Form, kVector, Form::kGroup>(run, Form::kTerms, part_of, e); });
  }
}

/// Step 6 for kN elements of one term that brings a gradient.
template <bool kSummed, bool kAmsgrad, bool kSkips, std::uint32_t kN>
__device__ __forceinline__ void moments_elements(const TensorRun& run, const TermRun& part, std::uint32_t e) {
  const GroupElements& k = run.group;
  const Lanes<kN> g = load<kN>(part.g + e);
  Lanes<kN> v = load<kN>(part.v + e);
  Lanes<kN> m = load<kN>((kSummed ? run.sum : part.m) + e);
  Lanes<kN> x{};
  // The shared x takes its share of v in the update.
  if constexpr (kAmsgrad && !kSummed) x = load<kN>(part.x + e);
  Lanes<kN> theta{};
  if (k.coupled != 0) theta = load<kN>(run.theta + e);
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    const float ghat = gradient(g.e[j], theta.e[j], part.k.f, k);
    const bool rests = kSkips && element_rests(g.e[j], part.k.f);
    v.e[j] = unless_resting(rests, v.e[j], second_moment(v.e[j], ghat, k));
    if constexpr (kSummed) {
      const float sum = run.opens ? decayed_sum(m.e[j], k) : m.e[j];
      m.e[j] = unless_resting(rests, sum, added_to_sum(sum, ghat, k));
    } else {
      m.e[j] = unless_resting(rests, m.e[j], first_moment(m.e[j], ghat, k));
      if constexpr (kAmsgrad) x.e[j] = larger(v.e[j], x.e[j]);
    }
  }
  store<kN>(part.v + e, v);
  store<kN>((kSummed ? run.sum : part.m) + e, m);
  if constexpr (kAmsgrad && !kSummed) store<kN>(part.x + e, x);
}

template <bool kSummed, bool kAmsgrad, bool kSkips>
__device__ inline void moments_chunk(const TensorRun& shared_run, const TermRun& shared_part) {
  const TensorRun run = shared_run;
  const TermRun part = shared_part;
  if (!part.present) return;
  for_elements(
      run, [&](std::uint32_t e) { moments_elements<kSummed, kAmsgrad, kSkips, 1>(run, part, e); },
      [&](std::uint32_t e) { moments_elements<kSummed, kAmsgrad, kSkips, kVector>(run, part, e); });
}

/// kN elements of G with one more term; the term that opens the step starts it.
template <bool kSkips, std::uint32_t kN>
__device__ __forceinline__ void gather_elements(const TensorRun& run, const TermRun& part, std::uint32_t e) {
  const Lanes<kN> g = load<kN>(part.g + e);
  Lanes<kN> sum{};
  if (!run.opens) sum = load<kN>(run.gathered + e);
#pragma unroll
  for (std::uint32_t j = 0; j < kN; ++j) {
    sum.e[j] =
        run.opens ? gathered_share<kSkips>(g.e[j], part.k.f) : added_to_gathered<kSkips>(sum.e[j], g.e[j], part.k.f);
  }
  store<kN>(run.gathered + e, sum);
}

template <bool kSkips>
__device__ inline void gather_chunk(const TensorRun& shared_run, const TermRun& shared_part) {
  const TensorRun run = shared_run;
  const TermRun part = shared_part;
  if (!part.present) return;
  for_elements(
      run, [&](std::uint32_t e) { gather_elements<kSkips, 1>(run, part, e); },
      [&](std::uint32_t e) { gather_elements<kSkips, kVector>(run, part, e); });
}

/// Shows the network's unit in its layers without elements, which have no chunk. The grid shares them out.
__device__ inline void show_in_empty_layers(const Tables& tables, std::uint32_t first, std::uint32_t terms) {
  if (!tables.network) return;
  for (std::uint32_t k = blockIdx.x * blockDim.x + threadIdx.x; k < tables.empty_layer_count;
       k += gridDim.x * blockDim.x) {
    for (std::uint32_t term = first; term < first + terms; ++term) show_network(tables, term, tables.empty_layers[k]);
  }
}

/// Calls fetch(work, item) by the last warp, one item ahead, and take(work) by all others, for each item of this block.
template <class Work, class Fetch, class Take>
__device__ __forceinline__ void for_chunks(std::uint64_t count, const Fetch& fetch, const Take& take) {
  MTADAM_SHARED(Work, work, 2);
  const bool fetches = threadIdx.x >= kUpdateThreads;
  if (fetches && blockIdx.x < count) fetch(work[0], blockIdx.x);
  __syncthreads();
  std::uint32_t turn = 0;
  for (std::uint64_t item = blockIdx.x; item < count; item += gridDim.x) {
    if (!fetches) {
      take(work[turn]);
    } else if (item + gridDim.x < count) {
      fetch(work[turn ^ 1], item + gridDim.x);
    }
    turn ^= 1;
    __syncthreads();  // one side has filled the next work, the other is done with this
  }
}

/// Ends the step once every block is here.
__device__ __forceinline__ void end_step(const Tables& tables, std::uint64_t open) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  fence_acq_rel();
  // The last block to end ends the step: every other has read its number.
  if (atomicAdd(tables.shared.tickets + tables.layer_count, 1ull) == gridDim.x - 1) {
    fence_acq_rel();
    tables.shared.tickets[tables.layer_count] = 0;
    *tables.shared.step = open + 1;
  }
}

}  // namespace update

/// Steps 5 to 7 for all terms, or step 7 from the moments; then the step is over. Any grid of blocks of
/// kUpdateBlockThreads. Chunks go in the reverse order of the launch before, whose last ones are still in the
/// second-level cache: backwards after norms (gradients), forwards after moments (moments).
template <class Form>
__global__ void __launch_bounds__(kUpdateBlockThreads, Form::kBlocks) update_kernel(Tables tables, Call call) {
  using Work = update::Work<Form>;
  const std::uint64_t open = *tables.shared.step;
  const auto chunk_of = [&](std::uint64_t item) {
    return tables.chunks[Form::kGradients ? tables.chunk_count - 1 - item : item];
  };
  update::for_chunks<Work>(
      tables.chunk_count,
      [&](Work& work, std::uint64_t item) {
        update::fetch<Form>(work, tables, call, 0, tables.term_count, chunk_of(item), open);
      },
      [&](const Work& work) { update::update_chunk<Form>(tables, call, work, open); });
  if (Form::kGradients) update::show_in_empty_layers(tables, 0, tables.term_count);
  update::end_step(tables, open);
}

constexpr std::uint32_t kMomentsBlocks = blocks_for(64);

/// Steps 5 and 6 for one term (call.count is 1). With kOneV the term is added to G.
template <bool kSummed, bool kAmsgrad, bool kOneV = false, bool kSkips = false>
__global__ void __launch_bounds__(kUpdateBlockThreads, kMomentsBlocks) moments_kernel(Tables tables, Call call) {
  using Form = UpdateForm<1, kSummed, kAmsgrad, true, kOneV>;
  using Work = update::Work<Form>;
  const std::uint64_t open = *tables.shared.step;
  update::for_chunks<Work>(
      tables.chunk_count,
      [&](Work& work, std::uint64_t item) {
        const Chunk chunk = tables.chunks[tables.chunk_count - 1 - item];
        update::fetch<Form>(work, tables, call, call.first, 1, chunk, open);
        if (kSummed && threadIdx.x == kUpdateThreads) {
          work.run.opens = tables.shared.opener[chunk.tensor] == call.first;
        }
      },
      [&](const Work& work) {
        if constexpr (kOneV) {
          update::gather_chunk<kSkips>(work.run, work.parts[0]);
        } else {
          update::moments_chunk<kSummed, kAmsgrad, kSkips>(work.run, work.parts[0]);
        }
      });
  update::show_in_empty_layers(tables, call.first, 1);
}

}  // namespace mtadam::kernels
