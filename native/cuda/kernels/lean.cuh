#pragma once

#include <cstdint>

#include "cuda/kernels/narrow_io.cuh"
#include "cuda/kernels/platform.cuh"
#include "cuda/kernels/update.cuh"
#include "cuda/kernels/vector_io.cuh"
#include "math/moments.h"
#include "math/network.h"
#include "math/parameter_codes.h"
#include "math/scalars.h"
#include "math/state_codes.h"
#include "math/tables.h"

// Steps 5 to 7 where large tensors have moments in bfloat16 or 8 bits (docs/algorithm.md, "Lean state"), or parameters
// or gradients are narrow. A warp takes a block of codes, a thread four neighbouring elements of it, one term after
// another: a word of codes per access. Tensors whose moments are float32 take the same way. The types of the moments,
// gradients and parameters, amsgrad and skipped elements are branches that a whole warp agrees on: compiled apart, they
// would be most of the addon.

namespace mtadam::kernels {

/// How moments are summed, which the loop over terms depends on.
enum class LeanSums { kNone, kFirst, kBoth };

namespace lean {

using update::Lanes;
using update::TensorRun;
using update::TermRun;

static_assert(kWarpThreads * kVector == kCodeBlock);

/// The arrays of one moment in a chunk: codes, or float32 in small tensors.
struct Moment {
  float* values;
  CodePlane codes;
};

__device__ __forceinline__ Moment moment_at(float* plane, const CodePlane& codes, StateType type, const Tensor& tensor,
                                            std::uint64_t first) {
  const std::uint64_t at = tensor.plane + first;
  if (!tensor.lean) return {update::offset(plane, at), {}};
  if (codes.codes == nullptr) return {};
  return {
      nullptr,
      {codes.codes + at * code_bytes(type), type == StateType::k8bit ? codes.exponents + at / kCodeBlock : nullptr}};
}

struct Part {
  TermRun run;
  Moment m, v, x;
  std::uint32_t stream;
};

/// A chunk, and the values that all its terms share.
struct Work {
  TensorRun run;
  StateType type;        // of the tensor's moments
  ElementType gradient;  // of its gradients
  ElementType theta;     // of its own elements
  Rounding rounding;     // of a narrow θ
  std::byte* master;     // of a narrow θ; null without masters
  ChunkKey key;
  Moment m, v, x;  // shared
};

/// With the first terms' parts.
template <std::uint32_t kPartCount>
struct WorkOf : Work {
  static constexpr std::uint32_t kParts = kPartCount;
  Part parts[kParts];
};

__device__ inline Part part_of(const Tables& tables, const Call& call, std::uint32_t term, const Chunk& chunk,
                               std::uint64_t open, bool gradients) {
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const Term& state = tables.terms[term];
  const Clock& clock = state.clocks[chunk.tensor];
  const std::uint64_t first = first_of_chunk(chunk.index);
  const StateType type = tables.state_type;
  Part part{};
  part.run.present = takes_part(clock, open);
  part.run.counts = part.run.present || (tables.summed && !tables.amsgrad && !tables.one_v && clock.t > 0);
  if (gradients && part.run.present) {
    const float* const g = gradient_of(tables, call, term, chunk.tensor);
    part.run.present = g != nullptr;  // as in update::term_run(), but a narrow θ may be shorter than the gradient
    if (part.run.present) part.run.g = gradient_at(tensor, g, first);
  }
  part.run.k = state.coefficients[chunk.tensor];
  if (gradients && tables.network) part.run.k.f = factor_of(tables, state, part.run.k, tensor.layer);
  part.m = moment_at(state.m, state.codes.m, type, tensor, first);
  part.v = moment_at(state.v, state.codes.v, type, tensor, first);
  part.x = moment_at(state.x, state.codes.x, type, tensor, first);
  part.stream = state.stream;
  return part;
}

/// What the terms share in a chunk whose scalars are known, by one thread.
__device__ inline void describe(Work& work, const TensorRun& run, const Tables& tables, std::uint64_t open) {
  const Chunk chunk = run.chunk;
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const std::uint64_t begin = first_of_chunk(chunk.index);
  const StateType type = tables.state_type;
  work.run = run;
  work.run.theta = parameter_at(tables, chunk.tensor, begin);
  work.type = tensor.lean ? type : StateType::kFloat32;
  work.gradient = tensor.gradient;
  work.theta = tensor.type;
  work.rounding = tables.rounding;
  work.master = tables.shared.masters;
  if (work.master != nullptr) work.master += tensor.master + begin * master_bytes(tensor.type);
  work.key = chunk_key(tables.seed, open - *tables.shared.first_step, tensor.key, chunk.index);
  work.m = moment_at(tables.shared.m, tables.shared.codes.m, type, tensor, begin);
  work.v = moment_at(tables.shared.v, tables.shared.codes.v, type, tensor, begin);
  work.x = moment_at(tables.shared.x, tables.shared.codes.x, type, tensor, begin);
}

/// Fetches the addresses and scalars of a chunk for the terms from `first` on, by one warp.
template <class Work>
__device__ inline void fetch(Work& work, const Tables& tables, const Call& call, std::uint32_t first,
                             std::uint32_t terms, const Chunk& chunk, std::uint64_t open, bool gradients) {
  const std::uint32_t lane = threadIdx.x % kWarpThreads;
  TensorRun run = update::tensor_run(tables, chunk);
  bool counted = false, several = false, present = false;
  for (std::uint32_t base = 0; base < terms; base += kWarpThreads) {
    const std::uint32_t k = base + lane;
    const Part part = k < terms ? part_of(tables, call, first + k, chunk, open, gradients) : Part{};
    if (k < Work::kParts) work.parts[k] = part;
    if (gradients && tables.network && k < terms && chunk.index == 0) {
      show_network(tables, first + k, tables.tensors[chunk.tensor].layer);
    }
    present |= part.run.present;
    const unsigned counting = __ballot_sync(kWholeWarp, part.run.counts);
    if (counting == 0) continue;
    const float b = __shfl_sync(kWholeWarp, part.run.k.b, __ffs(static_cast<int>(counting)) - 1);
    if (!counted) run.b = b;
    counted = true;
    several |= part.run.counts && part.run.k.b != run.b;
  }
  run.one_b = __any_sync(kWholeWarp, several) == 0;
  run.present = __any_sync(kWholeWarp, present) != 0;
  if (lane == 0) describe(work, run, tables, open);
}

/// The elements of a thread: `count` of them, up to four, from `first` on.
struct Place {
  std::uint32_t first;
  std::uint32_t count;
  std::uint32_t words[kVector];  // element_word() of each
};

using Values = Lanes<kVector>;

__device__ __forceinline__ Values load_floats(const float* from, const Place& at) {
  const float* const p = from + at.first;
  if (at.count == kVector && short_of_boundary(p) == 0) return update::load<kVector>(p);
  Values values;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) values.e[j] = j < at.count ? p[j] : 0;
  return values;
}

/// Codes of 16 bits, zeros behind the end of a tensor.
struct NarrowCodes {
  std::uint32_t e[kVector];
};

__device__ __forceinline__ NarrowCodes load_narrow(const std::uint16_t* from, const Place& at) {
  const std::uint16_t* const p = from + at.first;
  NarrowCodes codes;
  if (at.count == kVector && short_of_boundary(Narrow{p, {}}) == 0) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(p);
    return {{pairs.x & 0xffffu, pairs.x >> 16, pairs.y & 0xffffu, pairs.y >> 16}};
  }
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) codes.e[j] = j < at.count ? p[j] : 0;
  return codes;
}

/// Elements of a gradient or parameter.
__device__ __forceinline__ Values load_elements(const float* first, ElementType type, const Place& at) {
  if (type == ElementType::kFloat32) return load_floats(first, at);
  const NarrowCodes codes = load_narrow(reinterpret_cast<const std::uint16_t*>(first), at);
  Values values;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) values.e[j] = decoded(type, codes.e[j]);
  return values;
}

__device__ __forceinline__ void store_floats(float* to, const Place& at, const Values& values) {
  float* const p = to + at.first;
  if (at.count == kVector && short_of_boundary(p) == 0) return update::store<kVector>(p, values);
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    if (j < at.count) p[j] = values.e[j];
  }
}

__device__ __forceinline__ void store_narrow(std::uint16_t* to, const Place& at, const NarrowCodes& codes) {
  std::uint16_t* const p = to + at.first;
  if (at.count == kVector && short_of_boundary(Narrow{p, {}}) == 0) {
    *reinterpret_cast<uint2*>(p) = make_uint2(codes.e[0] | codes.e[1] << 16, codes.e[2] | codes.e[3] << 16);
    return;
  }
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    if (j < at.count) p[j] = static_cast<std::uint16_t>(codes.e[j]);
  }
}

/// θ in float32, with its master.
__device__ __forceinline__ Values load_theta(const Work& work, const Place& at) {
  if (work.theta == ElementType::kFloat32 || work.rounding != Rounding::kMaster) {
    return load_elements(work.run.theta, work.theta, at);
  }
  Values theta;
  const NarrowCodes codes = load_narrow(reinterpret_cast<const std::uint16_t*>(work.run.theta), at);
  if (work.theta == ElementType::kBfloat16) {
    const NarrowCodes low = load_narrow(reinterpret_cast<const std::uint16_t*>(work.master), at);
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) theta.e[j] = joined(codes.e[j], low.e[j]);
  } else {
    theta = load_floats(reinterpret_cast<const float*>(work.master), at);
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) theta.e[j] = mastered_float16(codes.e[j], theta.e[j]);
  }
  return theta;
}

__device__ __forceinline__ void store_theta(const Work& work, const Place& at, const Values& theta) {
  if (work.theta == ElementType::kFloat32) return store_floats(work.run.theta, at, theta);
  auto* const codes = reinterpret_cast<std::uint16_t*>(work.run.theta);
  NarrowCodes rounded;
  if (work.rounding == Rounding::kStochastic) {
    const std::uint32_t stream = parameter_stream();
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) {
      rounded.e[j] = drawn(work.theta, theta.e[j], stream_word(element_word(work.key, at.first + j), stream));
    }
  } else if (work.rounding == Rounding::kMaster && work.theta == ElementType::kBfloat16) {
    NarrowCodes low;
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) {
      const Halves halves = halved(theta.e[j]);
      rounded.e[j] = halves.code;
      low.e[j] = halves.low;
    }
    store_narrow(reinterpret_cast<std::uint16_t*>(work.master), at, low);
  } else {
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) rounded.e[j] = nearest(work.theta, theta.e[j]);
    if (work.rounding == Rounding::kMaster) store_floats(reinterpret_cast<float*>(work.master), at, theta);
  }
  store_narrow(codes, at, rounded);
}

constexpr std::uint32_t kNan = 0x7fc00000u;

/// `second`: of v or x. Codes behind the end of a tensor are 0.
__device__ __forceinline__ Values load(const Moment& moment, StateType type, bool second, const Place& at) {
  if (type == StateType::kFloat32) return load_floats(moment.values, at);
  Values values;
  if (type == StateType::kBfloat16) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(moment.codes.codes + at.first * 2);
    values.e[0] = decoded_bfloat16(pairs.x & 0xffffu);
    values.e[1] = decoded_bfloat16(pairs.x >> 16);
    values.e[2] = decoded_bfloat16(pairs.y & 0xffffu);
    values.e[3] = decoded_bfloat16(pairs.y >> 16);
    return values;
  }
  const std::uint32_t codes = *reinterpret_cast<const std::uint32_t*>(moment.codes.codes + at.first);
  const std::uint32_t exponent = moment.codes.exponents[at.first / kCodeBlock];
  const std::uint32_t base = v_base(exponent);
  const float down = m_down(exponent);
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const std::uint32_t code = codes >> 8 * j & 0xffu;
    const float value = second ? decoded_v(code, base) : decoded_m(code, down);
    values.e[j] = exponent == kNanExponent ? float_of(kNan) : value;
  }
  return values;
}

/// The largest value of a warp.
__device__ __forceinline__ std::uint32_t largest_of_warp(std::uint32_t value) {
#pragma unroll
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    const std::uint32_t other = __shfl_xor_sync(kWholeWarp, value, distance);
    value = other > value ? other : value;
  }
  return value;
}

__device__ __forceinline__ void store_codes(const Moment& moment, bool second, const Place& at, Values& values,
                                            std::uint32_t stream) {
  std::uint32_t largest = 0;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const std::uint32_t bits = j < at.count ? magnitude(values.e[j]) : 0;
    largest = bits > largest ? bits : largest;
  }
  largest = largest_of_warp(largest);
  const std::uint32_t exponent = second ? v_exponent(largest) : m_exponent(largest);
  const std::uint32_t base = v_base(exponent);
  const float up = m_up(exponent), down = m_down(exponent);
  std::uint32_t codes = 0;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const std::uint32_t word = stream_word(at.words[j], stream);
    const Rounded one =
        second ? rounded_v(values.e[j], base, draw_v(word)) : rounded_m(values.e[j], up, down, draw_m(word));
    const bool nan = exponent == kNanExponent;
    values.e[j] = nan ? float_of(kNan) : one.value;
    codes |= (nan || j >= at.count ? 0 : one.code) << 8 * j;
  }
  *reinterpret_cast<std::uint32_t*>(moment.codes.codes + at.first) = codes;
  __syncwarp();  // all lanes have read the exponent
  if (threadIdx.x % kWarpThreads == 0) {
    moment.codes.exponents[at.first / kCodeBlock] = static_cast<std::uint8_t>(exponent);
  }
}

__device__ __forceinline__ void store_bfloat16(const Moment& moment, bool second, const Place& at, Values& values,
                                               std::uint32_t stream) {
  std::uint32_t codes[kVector];
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const std::uint32_t code = second ? drawn_bfloat16(values.e[j], draw_bfloat16(stream_word(at.words[j], stream)))
                                      : nearest_bfloat16(values.e[j]);
    values.e[j] = decoded_bfloat16(code);
    codes[j] = j < at.count ? code : 0;
  }
  *reinterpret_cast<uint2*>(moment.codes.codes + at.first * 2) =
      make_uint2(codes[0] | codes[1] << 16, codes[2] | codes[3] << 16);
}

/// Stores values, and rounds them to what was stored. By a whole warp.
__device__ __forceinline__ void store(const Moment& moment, StateType type, bool second, const Place& at,
                                      Values& values, std::uint32_t stream) {
  if (type == StateType::kFloat32) {
    store_floats(moment.values, at, values);
  } else if (type == StateType::kBfloat16) {
    store_bfloat16(moment, second, at, values, stream);
  } else {
    store_codes(moment, second, at, values, stream);
  }
}

/// What a launch agrees on, and how it sees gradients: see(i, place, g) for those of the call's i-th term.
template <class See>
struct Options {
  std::uint32_t terms;
  bool amsgrad;
  bool skips;
  std::uint32_t shared_stream;
  See see;
};

/// Where norms have been found.
struct SeeNothing {
  __device__ __forceinline__ void operator()(std::uint32_t, const Place&, const Values&) const {}
};

/// Loads elements of the gradient of the i-th term.
template <class Options>
__device__ __forceinline__ Values load_gradient(const Work& work, const Part& part, std::uint32_t i, const Place& at,
                                                const Options& options) {
  const Values g = load_elements(part.run.g, work.gradient, at);
  options.see(i, at, g);
  return g;
}

/// Step 6 of a term that takes part: m or `sum`, v, and the x of its own.
template <bool kSummed, class Options>
__device__ __forceinline__ void take_term(const Work& work, const Part& part, std::uint32_t i, const Place& at,
                                          const Options& options, const Values& theta, bool opens, Values& m, Values& v,
                                          Values& x) {
  const GroupElements& k = work.run.group;
  const Values g = load_gradient(work, part, i, at, options);
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const float ghat = update::gradient(g.e[j], theta.e[j], part.run.k.f, k);
    const bool rests = options.skips && element_rests(g.e[j], part.run.k.f);
    v.e[j] = unless_resting(rests, v.e[j], second_moment(v.e[j], ghat, k));
    if constexpr (kSummed) {
      const float sum = opens ? decayed_sum(m.e[j], k) : m.e[j];
      m.e[j] = unless_resting(rests, sum, added_to_sum(sum, ghat, k));
    } else {
      m.e[j] = unless_resting(rests, m.e[j], first_moment(m.e[j], ghat, k));
    }
  }
  store(part.v, work.type, true, at, v, part.stream);
  if constexpr (kSummed) return;
  store(part.m, work.type, false, at, m, part.stream);
  if (!options.amsgrad) return;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) x.e[j] = larger(v.e[j], x.e[j]);
  store(part.x, work.type, true, at, x, part.stream);
}

/// Step 7: `d` is the largest denominator, or with `one_b` its radicand.
__device__ __forceinline__ void move(const Work& work, const Place& at, Values theta, const Values& u, const Values& d,
                                     bool one_b, float b) {
  const TensorRun& run = work.run;
  const GroupElements& k = run.group;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const float bound = one_b ? denominator(d.e[j], b, k) : d.e[j];
    const float q = run.w != 1 ? adam_step<true>(u.e[j], bound, run.w) : adam_step<false>(u.e[j], bound, run.w);
    theta.e[j] = k.decoupled != 0 ? moved<true>(theta.e[j], q, k) : moved<false>(theta.e[j], q, k);
  }
  store_theta(work, at, theta);
}

__device__ __forceinline__ Values scaled(const Values& m, float c) {
  Values u;
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) u.e[j] = step_part(m.e[j], c);
  return u;
}

/// One block of a chunk, by a warp. `part_at(i)` is the i-th term's part.
template <bool kSummed, bool kGradients, class Options, class PartAt>
__device__ __forceinline__ void update_block(const Work& work, const Place& at, const Options& options,
                                             const PartAt& part_at) {
  const TensorRun& run = work.run;
  const bool one_x = kSummed && options.amsgrad;
  const bool one_b = run.one_b && !one_x;
  const Values theta = load_theta(work, at);
  Values sum{}, largest{}, u{}, d{};
  if constexpr (kSummed) sum = load(work.m, work.type, false, at);
  if (one_x) largest = load(work.x, work.type, true, at);
  bool opens = true, started = false;
#pragma unroll 1
  for (std::uint32_t i = 0; i < options.terms; ++i) {
    const Part& part = part_at(i);
    if (!part.run.counts) continue;
    Values m{}, x{};
    Values v = load(part.v, work.type, true, at);
    if constexpr (!kSummed) m = load(part.m, work.type, false, at);
    if (!kSummed && options.amsgrad) x = load(part.x, work.type, true, at);
    if (kGradients && part.run.present) {
      take_term<kSummed>(work, part, i, at, options, theta, opens, kSummed ? sum : m, v, x);
      opens = false;
    }
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) {
      if constexpr (!kSummed) {
        const float own = step_part(m.e[j], part.run.k.c);
        u.e[j] = started ? u.e[j] + own : own;
      }
      if (one_x) {
        largest.e[j] = larger(v.e[j], largest.e[j]);
        continue;
      }
      const float second = !kSummed && options.amsgrad ? x.e[j] : v.e[j];
      const float bound = one_b ? second : denominator(second, part.run.k.b, run.group);
      d.e[j] = started ? larger(bound, d.e[j]) : bound;
    }
    started = true;
  }
  if (kSummed && kGradients) store(work.m, work.type, false, at, sum, options.shared_stream);
  if (one_x) store(work.x, work.type, true, at, largest, options.shared_stream);
  if constexpr (kSummed) u = scaled(sum, run.shared.c);
  if (one_x) return move(work, at, theta, u, largest, true, run.shared.b);
  move(work, at, theta, u, d, one_b, run.b);
}

/// The same where both moments are summed.
template <bool kGradients, class Options, class PartAt>
__device__ __forceinline__ void adam_block(const Work& work, const Place& at, const Options& options,
                                           const PartAt& part_at) {
  const TensorRun& run = work.run;
  const GroupElements& k = run.group;
  Values sum{};
  if constexpr (kGradients) {
    bool started = false;
#pragma unroll 1
    for (std::uint32_t i = 0; i < options.terms; ++i) {
      const Part& part = part_at(i);
      if (!part.run.present) continue;
      const Values g = load_gradient(work, part, i, at, options);
      const float f = part.run.k.f;
#pragma unroll
      for (std::uint32_t j = 0; j < kVector; ++j) {
        const float share = options.skips ? gathered_share<true>(g.e[j], f) : gathered_share<false>(g.e[j], f);
        sum.e[j] = started ? sum.e[j] + share : share;
      }
      started = true;
    }
  } else {
    sum = load_floats(run.gathered, at);
  }
  const Values theta = load_theta(work, at);
  Values m = load(work.m, work.type, false, at);
  Values v = load(work.v, work.type, true, at);
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    update::move_moments(m.e[j], v.e[j], sum.e[j], theta.e[j], k);
  }
  store(work.m, work.type, false, at, m, options.shared_stream);
  store(work.v, work.type, true, at, v, options.shared_stream);
  if (options.amsgrad) {
    Values x = load(work.x, work.type, true, at);
#pragma unroll
    for (std::uint32_t j = 0; j < kVector; ++j) x.e[j] = v.e[j] = larger(v.e[j], x.e[j]);
    store(work.x, work.type, true, at, x, options.shared_stream);
  }
  move(work, at, theta, scaled(m, run.shared.c), v, true, run.shared.b);
}

/// Step 6 of one term, for accumulate.
template <bool kSummed, class Options>
__device__ __forceinline__ void moments_block(const Work& work, const Part& part, const Place& at,
                                              const Options& options) {
  Values theta{}, x{};
  if (work.run.group.coupled != 0) theta = load_theta(work, at);
  Values v = load(part.v, work.type, true, at);
  Values m = load(kSummed ? work.m : part.m, work.type, false, at);
  if (!kSummed && options.amsgrad) x = load(part.x, work.type, true, at);
  take_term<kSummed>(work, part, 0, at, options, theta, work.run.opens, m, v, x);
  if (kSummed) store(work.m, work.type, false, at, m, options.shared_stream);
}

/// The same where both moments are summed: the term is added to G, which it starts if it opens the step.
template <class Options>
__device__ __forceinline__ void gather_block(const Work& work, const Part& part, const Place& at,
                                             const Options& options) {
  const TensorRun& run = work.run;
  const float f = part.run.k.f;
  const Values g = load_gradient(work, part, 0, at, options);
  Values sum{};
  if (!run.opens) sum = load_floats(run.gathered, at);
#pragma unroll
  for (std::uint32_t j = 0; j < kVector; ++j) {
    const float share = options.skips ? gathered_share<true>(g.e[j], f) : gathered_share<false>(g.e[j], f);
    sum.e[j] = run.opens ? share : sum.e[j] + share;
  }
  store_floats(run.gathered, at, sum);
}

/// Calls visit(place) for the blocks of a chunk, each by a whole warp, which takes kTogether of them in turn.
template <std::uint32_t kThreads, std::uint32_t kTogether, class Visit>
__device__ __forceinline__ void for_blocks(const Work& work, const Visit& visit) {
  constexpr std::uint32_t kWarps = kThreads / kWarpThreads;
  const std::uint32_t lane = threadIdx.x % kWarpThreads;
  std::uint32_t block = threadIdx.x / kWarpThreads * kTogether;
  while (block * kCodeBlock < work.run.count) {
    Place at{};
    at.first = block * kCodeBlock + lane * kVector;
    const std::uint32_t left = at.first < work.run.count ? work.run.count - at.first : 0;
    at.count = left < kVector ? left : kVector;
    if (work.type != StateType::kFloat32) {
#pragma unroll
      for (std::uint32_t j = 0; j < kVector; ++j) at.words[j] = element_word(work.key, at.first + j);
    }
    visit(at);
    block += block % kTogether + 1 == kTogether ? (kWarps - 1) * kTogether + 1 : 1;
  }
}

}  // namespace lean

/// Blocks that a multiprocessor holds: a thread keeps one term's values at a time, and with first moments per term and
/// gradients a few more.
constexpr std::uint32_t kLeanMomentsBlocks = blocks_for(80);
constexpr std::uint32_t lean_blocks(LeanSums sums, bool gradients) {
  return blocks_for(sums == LeanSums::kNone && gradients ? 96 : 80);
}

/// As update_kernel.
template <LeanSums kSums, bool kGradients>
__global__ void __launch_bounds__(kUpdateBlockThreads, lean_blocks(kSums, kGradients))
    lean_update_kernel(Tables tables, Call call) {
  const std::uint64_t open = *tables.shared.step;
  const auto chunk_of = [&](std::uint64_t item) {
    return tables.chunks[kGradients ? tables.chunk_count - 1 - item : item];
  };
  using Work = lean::WorkOf<32>;
  const lean::Options<lean::SeeNothing> options{
      tables.term_count, tables.amsgrad, kGradients && skips_elements(tables.non_finite), shared_stream(), {}};
  update::for_chunks<Work>(
      tables.chunk_count,
      [&](Work& work, std::uint64_t item) {
        lean::fetch(work, tables, call, 0, tables.term_count, chunk_of(item), open, kGradients);
      },
      [&](const Work& work) {
        if (!work.run.present) return;
        const auto part_at = [&](std::uint32_t i) {
          return i < Work::kParts ? work.parts[i] : lean::part_of(tables, call, i, work.run.chunk, open, kGradients);
        };
        lean::for_blocks<kUpdateThreads, 1>(work, [&](const lean::Place& at) {
          if constexpr (kSums == LeanSums::kBoth) {
            lean::adam_block<kGradients>(work, at, options, part_at);
          } else {
            lean::update_block<kSums == LeanSums::kFirst, kGradients>(work, at, options, part_at);
          }
        });
      });
  if (kGradients) update::show_in_empty_layers(tables, 0, tables.term_count);
  update::end_step(tables, open);
}

/// As moments_kernel.
template <LeanSums kSums>
__global__ void __launch_bounds__(kUpdateBlockThreads, kLeanMomentsBlocks)
    lean_moments_kernel(Tables tables, Call call) {
  const std::uint64_t open = *tables.shared.step;
  using Work = lean::WorkOf<1>;
  const lean::Options<lean::SeeNothing> options{
      1, tables.amsgrad, skips_elements(tables.non_finite), shared_stream(), {}};
  update::for_chunks<Work>(
      tables.chunk_count,
      [&](Work& work, std::uint64_t item) {
        const Chunk chunk = tables.chunks[tables.chunk_count - 1 - item];
        lean::fetch(work, tables, call, call.first, 1, chunk, open, true);
        if (kSums != LeanSums::kNone && threadIdx.x == kUpdateThreads) {
          work.run.opens = tables.shared.opener[chunk.tensor] == call.first;
        }
      },
      [&](const Work& work) {
        if (!work.parts[0].run.present) return;
        lean::for_blocks<kUpdateThreads, 1>(work, [&](const lean::Place& at) {
          if constexpr (kSums == LeanSums::kBoth) {
            lean::gather_block(work, work.parts[0], at, options);
          } else {
            lean::moments_block<kSums == LeanSums::kFirst>(work, work.parts[0], at, options);
          }
        });
      });
  update::show_in_empty_layers(tables, call.first, 1);
}

}  // namespace mtadam::kernels
