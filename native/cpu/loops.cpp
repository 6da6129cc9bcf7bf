// The element loops, compiled once per instruction set (MTADAM_LOOPS names this copy's table). The arithmetic is that
// of math/moments.h. Everything has internal linkage and nothing of the standard library is used, so that the linker
// cannot replace code of one instruction set by that of a wider one.

#include "cpu/loops.h"

#include "math/moments.h"
#include "math/parameter_codes.h"

// Runs never overlap: the optimizer rejects parameters and gradients that do. Each loop says so, since compilers do not
// vectorise with run-time overlap checks for so many arrays.
#if defined(__clang__)
#  define MTADAM_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#  define MTADAM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#  define MTADAM_INDEPENDENT _Pragma("GCC ivdep")
#  define MTADAM_UNROLL _Pragma("GCC unroll 16")
#elif defined(_MSC_VER)
#  define MTADAM_INDEPENDENT __pragma(loop(ivdep))
#  define MTADAM_UNROLL
#endif

// Any address will do. What it holds will be written, too.
#if defined(__GNUC__)
#  define MTADAM_PREFETCH(address) __builtin_prefetch(address, 1)
#else
#  define MTADAM_PREFETCH(address) static_cast<void>(address)
#endif

namespace mtadam {
namespace {

constexpr std::uint32_t kStride = kChunkLanes;
constexpr std::uint32_t kSteps = kSegmentElements / kChunkLanes;

// Products of float32 are exact in float64, so a fused multiply-add gives the same bits; without the instruction, the
// built-in would be a call.
MTADAM_INLINE double plus_product(double sum, float a, float b) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fma(static_cast<double>(a), static_cast<double>(b), sum);
#else
  return sum + static_cast<double>(a) * static_cast<double>(b);
#endif
}

// A segment: lane k mod 32 adds its eight products in the order of k. The loop over lanes is outside, so that the
// compiler keeps the sums in registers: with the loop over k outside, norms took twice as long.
MTADAM_INLINE void add_segment(double* lanes, const float* a, const float* b) {
  MTADAM_INDEPENDENT
  for (std::uint32_t lane = 0; lane < kStride; ++lane) {
    double sum = 0;
    MTADAM_UNROLL
    for (std::uint32_t k = 0; k < kSteps; ++k) sum = plus_product(sum, a[k * kStride + lane], b[k * kStride + lane]);
    lanes[lane] += sum;
  }
}

// Part of a segment, row by row: in the order of memory. Elements past the end would add zero, which changes no sum, so
// the loops stop before them: models of many small tensors consist of such segments.
MTADAM_INLINE void add_rows(double* sums, const float* a, const float* b, std::size_t count) {
  std::size_t done = 0;
  for (; done + kStride <= count; done += kStride) {
    MTADAM_INDEPENDENT
    for (std::size_t lane = 0; lane < kStride; ++lane) {
      sums[lane] = plus_product(sums[lane], a[done + lane], b[done + lane]);
    }
  }
  for (std::size_t lane = 0; done + lane < count; ++lane) {
    sums[lane] = plus_product(sums[lane], a[done + lane], b[done + lane]);
  }
}

MTADAM_INLINE void add_lanes(double* lanes, const double* sums) {
  MTADAM_INDEPENDENT
  for (std::uint32_t lane = 0; lane < kStride; ++lane) lanes[lane] += sums[lane];
}

MTADAM_INLINE bool exceeds(const double* lanes, double bound) {
  std::uint64_t found = 0;
  for (std::uint32_t lane = 0; lane < kStride; ++lane) found |= static_cast<std::uint64_t>(!(lanes[lane] <= bound));
  return found != 0;
}

// The sum over the lanes, which it overwrites.
MTADAM_INLINE double total_of(double* lanes) {
  for (std::uint32_t half = kStride / 2; half > 0; half /= 2) {
    for (std::uint32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

MTADAM_INLINE double sum_of_products(const float* a, const float* b, std::uint32_t count) {
  double lanes[kStride] = {};
  std::uint32_t done = 0;
  for (; done + kSegmentElements <= count; done += kSegmentElements) add_segment(lanes, a + done, b + done);
  if (done < count) {
    double sums[kStride] = {};
    add_rows(sums, a + done, b + done, count - done);
    add_lanes(lanes, sums);
  }
  return total_of(lanes);
}

// In the order of memory, since it is the first to touch the elements: in that of add_segment(), a whole step took up
// to 1.7 times as long.
bool add_squares(LaneSquares& lanes, const float* g, std::uint32_t first, std::uint32_t count, double bound) {
  // A whole segment needs no sums from before: without its own way, a step of one pair of moments took 9 % longer.
  if (count == kSegmentElements) {
    double sums[kStride] = {};
    add_rows(sums, g, g, kSegmentElements);
    add_lanes(lanes.chunk, sums);
    return exceeds(lanes.chunk, bound);
  }
  double sums[kStride];
  for (std::uint32_t lane = 0; lane < kStride; ++lane) sums[lane] = lanes.segment[lane];
  // A constant end for half a segment.
  count == kSegmentElements / 2 ? add_rows(sums, g, g, kSegmentElements / 2) : add_rows(sums, g, g, count);
  if ((first + count) % kSegmentElements != 0) {
    for (std::uint32_t lane = 0; lane < kStride; ++lane) lanes.segment[lane] = sums[lane];
    return exceeds(sums, bound);
  }
  add_lanes(lanes.chunk, sums);
  for (std::uint32_t lane = 0; lane < kStride; ++lane) lanes.segment[lane] = 0;
  return exceeds(lanes.chunk, bound);
}

double total_of_lanes(const LaneSquares& lanes) {
  double sums[kStride];
  for (std::uint32_t lane = 0; lane < kStride; ++lane) sums[lane] = lanes.chunk[lane];
  add_lanes(sums, lanes.segment);
  return total_of(sums);
}

double sum_of_squares(const float* g, std::uint32_t count) { return sum_of_products(g, g, count); }

double dot_product(const float* a, const float* b, std::uint32_t count) { return sum_of_products(a, b, count); }

// ---- One term alone -----------------------------------------------------------------------------------------

template <bool kSummed, bool kAmsgrad, bool kCoupled, bool kSkips, bool kOpens>
void term_moments(const TensorRun& run, const TermRun& term) {
  const GroupElements k = run.group;
  const float f = term.k.f;
  const float* const theta = run.theta;
  const float* const g = term.g;
  float* const m = term.m;
  float* const v = term.v;
  float* const x = term.x;
  float* const sum = run.sum;
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    const float gradient = balanced_gradient<kCoupled>(g[e], kCoupled ? theta[e] : 0.0f, f, k);
    const bool rests = kSkips && element_rests(g[e], f);
    const float second = unless_resting(rests, v[e], second_moment(v[e], gradient, k));
    v[e] = second;
    // The shared x is updated in step 7.
    if constexpr (kAmsgrad && !kSummed) x[e] = larger(second, x[e]);
    if constexpr (kSummed) {
      const float before = kOpens ? decayed_sum(sum[e], k) : sum[e];
      sum[e] = unless_resting(rests, before, added_to_sum(before, gradient, k));
    } else {
      m[e] = unless_resting(rests, m[e], first_moment(m[e], gradient, k));
    }
  }
}

template <bool kSummed, bool kAmsgrad, bool kCoupled, bool kSkips>
void moments(const TensorRun& run, const TermRun& term, bool opens) {
  if (kSummed && opens) {
    term_moments<kSummed, kAmsgrad, kCoupled, kSkips, true>(run, term);
  } else {
    term_moments<kSummed, kAmsgrad, kCoupled, kSkips, false>(run, term);
  }
}

// ---- A few terms in one loop --------------------------------------------------------------------------------

// The flags of a loop.
template <bool kWithGradients, bool kSumOfMoments, bool kMaximum, bool kCoupledDecay, bool kSharedB, bool kElementsRest>
struct Flags {
  static constexpr bool kGradients = kWithGradients;
  static constexpr bool kSummed = kSumOfMoments;
  static constexpr bool kAmsgrad = kMaximum;
  static constexpr bool kCoupled = kCoupledDecay;
  static constexpr bool kOneX = kSummed && kAmsgrad;  // x is shared
  static constexpr bool kOneB = kSharedB;             // b is shared: only the largest v needs its root
  static constexpr bool kSkips = kElementsRest;       // elements whose gradients cannot be used keep their moments
};

// The flags without those that have no effect beside the others.
template <bool kGradients, bool kSummed, bool kAmsgrad, bool kCoupled, bool kOneB, bool kSkips>
using FormOf =
    Flags<kGradients, kSummed, kAmsgrad, kGradients && kCoupled, kOneB && !(kSummed && kAmsgrad), kGradients && kSkips>;

// The values of one element during a pass.
struct Element {
  float theta;
  float sum;  // M
  float x;    // the shared x
  float u, d;
};

// Copied to local arrays, so that the compiler knows that no store changes them.
template <std::uint32_t kTerms>
struct Terms {
  const float* g[kTerms];
  float* m[kTerms];
  float* v[kTerms];
  float* x[kTerms];
  float f[kTerms], b[kTerms], c[kTerms];

  explicit Terms(const TermRun* runs) {
    for (std::uint32_t i = 0; i < kTerms; ++i) {
      g[i] = runs[i].g;
      m[i] = runs[i].m;
      v[i] = runs[i].v;
      x[i] = runs[i].x;
      f[i] = runs[i].k.f;
      b[i] = runs[i].k.b;
      c[i] = runs[i].k.c;
    }
  }
};

template <>
struct Terms<0> {
  explicit Terms(const TermRun*) {}
};

// Steps 5 and 6 at one element, and the terms' parts of U and D. `first`: no other term was part of them before.
template <class Form, std::uint32_t kTerms>
MTADAM_INLINE void pass(const Terms<kTerms>& terms, std::uint64_t e, Element& at, bool first, const GroupElements& k) {
  MTADAM_UNROLL
  for (std::uint32_t i = 0; i < kTerms; ++i) {
    const bool begins = first && i == 0;
    float second = terms.v[i][e];
    if constexpr (Form::kGradients) {
      const float gradient = balanced_gradient<Form::kCoupled>(terms.g[i][e], at.theta, terms.f[i], k);
      const bool rests = Form::kSkips && element_rests(terms.g[i][e], terms.f[i]);
      terms.v[i][e] = second = unless_resting(rests, second, second_moment(second, gradient, k));
      if constexpr (Form::kSummed) {
        at.sum = unless_resting(rests, at.sum, added_to_sum(at.sum, gradient, k));
      } else {
        const float m = terms.m[i][e];
        terms.m[i][e] = unless_resting(rests, m, first_moment(m, gradient, k));
      }
    }
    if constexpr (Form::kOneX) {
      at.x = larger(second, at.x);
    } else if constexpr (Form::kAmsgrad) {
      if constexpr (Form::kGradients) terms.x[i][e] = larger(second, terms.x[i][e]);
      second = terms.x[i][e];
    }
    if constexpr (!Form::kSummed) {
      const float part = step_part(terms.m[i][e], terms.c[i]);
      at.u = begins ? part : at.u + part;
    }
    if constexpr (!Form::kOneX) {
      const float bound = Form::kOneB ? second : denominator(second, terms.b[i], k);
      at.d = begins ? bound : larger(bound, at.d);
    }
  }
}

// Step 7, after all terms. `b` is used with kOneB only.
template <class Form, bool kDecoupled, bool kDivided>
MTADAM_INLINE float move_element(const Element& at, const TensorRun& run, float b, const GroupElements& k) {
  const float u = Form::kSummed ? step_part(at.sum, run.shared.c) : at.u;
  const float d = Form::kOneX ? denominator(at.x, run.shared.b, k) : Form::kOneB ? denominator(at.d, b, k) : at.d;
  return moved<kDecoupled>(at.theta, adam_step<kDivided>(u, d, run.w), k);
}

template <class Form, std::uint32_t kTerms, bool kDecoupled>
void fused(const TensorRun& given, const TermRun* runs) {
  const TensorRun run = given;
  const GroupElements k = run.group;
  const Terms<kTerms> terms(runs);
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    Element at{run.theta[e], 0, 0, 0, 0};
    if constexpr (Form::kSummed) at.sum = Form::kGradients ? decayed_sum(run.sum[e], k) : run.sum[e];
    if constexpr (Form::kOneX) at.x = run.sum_x[e];
    pass<Form>(terms, e, at, true, k);
    if constexpr (Form::kSummed && Form::kGradients) run.sum[e] = at.sum;
    if constexpr (Form::kOneX) run.sum_x[e] = at.x;
    run.theta[e] = move_element<Form, kDecoupled, false>(at, run, terms.b[0], k);
  }
}

// ---- Tiles, in passes of a few terms -------------------------------------------------------------------------

template <class Form, std::uint32_t kTerms, bool kOpens, bool kFirst>
void tile_terms(const TensorRun& given, const TermRun* runs, float* d, float* u) {
  const TensorRun run = given;
  const GroupElements k = run.group;
  const Terms<kTerms> terms(runs);
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    Element at{};
    if constexpr (Form::kCoupled) at.theta = run.theta[e];
    if constexpr (Form::kSummed && Form::kGradients) at.sum = kOpens ? decayed_sum(run.sum[e], k) : run.sum[e];
    if constexpr (Form::kOneX) at.x = run.sum_x[e];
    if constexpr (!kFirst && !Form::kSummed) at.u = u[e];
    if constexpr (!kFirst && !Form::kOneX) at.d = d[e];
    pass<Form>(terms, e, at, kFirst, k);
    if constexpr (Form::kSummed && Form::kGradients) run.sum[e] = at.sum;
    if constexpr (Form::kOneX) run.sum_x[e] = at.x;
    if constexpr (!Form::kSummed) u[e] = at.u;
    if constexpr (!Form::kOneX) d[e] = at.d;
  }
}

template <class Form, std::uint32_t kTerms>
void tile(const TensorRun& run, const TermRun* terms, const TilePass& pass) {
  // The first term also opens the step if it has a gradient. Only M depends on that.
  constexpr bool kDecays = Form::kSummed && Form::kGradients;
  if (pass.first) {
    tile_terms<Form, kTerms, kDecays, true>(run, terms, pass.d, pass.u);
  } else if (kDecays && pass.opens) {
    tile_terms<Form, kTerms, kDecays, false>(run, terms, pass.d, pass.u);
  } else {
    tile_terms<Form, kTerms, false, false>(run, terms, pass.d, pass.u);
  }
}

template <class Form, bool kDecoupled, bool kDivided>
void move(const TensorRun& given, float b, const float* d, const float* u) {
  const TensorRun run = given;
  const GroupElements k = run.group;
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    Element at{run.theta[e], 0, 0, 0, 0};
    if constexpr (Form::kSummed) at.sum = run.sum[e];
    if constexpr (!Form::kSummed) at.u = u[e];
    if constexpr (Form::kOneX) at.x = run.sum_x[e];
    if constexpr (!Form::kOneX) at.d = d[e];
    run.theta[e] = move_element<Form, kDecoupled, kDivided>(at, run, b, k);
  }
}

// ---- Both moments summed ------------------------------------------------------------------------------------

template <bool kSkips, bool kOpens>
void gather_term(const TensorRun& run, const TermRun& term) {
  const float f = term.k.f;
  const float* const g = term.g;
  float* const gathered = run.gathered;
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    gathered[e] = kOpens ? gathered_share<kSkips>(g[e], f) : added_to_gathered<kSkips>(gathered[e], g[e], f);
  }
}

template <bool kSkips>
void gather(const TensorRun& run, const TermRun& term, bool opens) {
  opens ? gather_term<kSkips, true>(run, term) : gather_term<kSkips, false>(run, term);
}

// G at one element: of the terms, or without any as it is in memory.
template <std::uint32_t kTerms>
MTADAM_INLINE float gather_element(const Terms<kTerms>& terms, const TensorRun& run, std::uint64_t e) {
  if constexpr (kTerms == 0) {
    return run.gathered[e];
  } else {
    float sum = terms.f[0] * terms.g[0][e];
    MTADAM_UNROLL
    for (std::uint32_t i = 1; i < kTerms; ++i) sum = added_to_gathered<false>(sum, terms.g[i][e], terms.f[i]);
    return sum;
  }
}

template <std::uint32_t kTerms, bool kAmsgrad, bool kCoupled, bool kDecoupled, bool kDivided>
void adam(const TensorRun& given, const TermRun* runs) {
  const TensorRun run = given;
  const GroupElements k = run.group;
  const Terms<kTerms> terms(runs);
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    const float theta = run.theta[e];
    const float gradient = decayed_gradient<kCoupled>(gather_element(terms, run, e), theta, k);
    const float m = first_moment(run.sum[e], gradient, k);
    float second = second_moment(run.v[e], gradient, k);
    run.sum[e] = m;
    run.v[e] = second;
    if constexpr (kAmsgrad) run.sum_x[e] = second = larger(second, run.sum_x[e]);
    const float q = adam_step<kDivided>(step_part(m, run.shared.c), denominator(second, run.shared.b, k), run.w);
    run.theta[e] = moved<kDecoupled>(theta, q, k);
  }
}

// ---- Codes of a lean state ----------------------------------------------------------------------------------

void draw(ChunkKey key, std::uint32_t first, std::uint64_t count, std::uint32_t* words) {
  const auto end = static_cast<std::uint32_t>(count);
  MTADAM_INDEPENDENT
  for (std::uint32_t e = 0; e < end; ++e) words[e] = element_word(key, first + e);
}

// Calls visit(first, count, exponent) for each block.
template <class Visit>
MTADAM_INLINE void for_code_blocks(const CodeRun& run, const Visit& visit) {
  for (std::uint64_t first = 0; first < run.count; first += kCodeBlock) {
    const std::uint64_t left = run.count - first;
    std::uint8_t* const exponent = run.type == StateType::k8bit ? run.plane.exponents + first / kCodeBlock : nullptr;
    visit(first, static_cast<std::uint32_t>(left < kCodeBlock ? left : kCodeBlock), exponent);
  }
}

MTADAM_INLINE void fill(float* to, std::uint32_t count, float value) {
  for (std::uint32_t k = 0; k < count; ++k) to[k] = value;
}

constexpr std::uint32_t kNanBits = 0x7fc00000u;

// Loops over a whole block have a constant end, which spares what precedes and follows vectors: with any end, a step of
// three terms in 8 bits took a fifth longer.
template <bool kWhole>
MTADAM_INLINE std::uint32_t end_of_block(std::uint32_t count) {
  return kWhole ? kCodeBlock : count;
}

template <bool kWhole>
MTADAM_INLINE void decode_block(const CodeRun& run, std::uint64_t first, std::uint32_t given, std::uint32_t exponent,
                                float* to) {
  const std::uint32_t count = end_of_block<kWhole>(given);
  if (run.type == StateType::kBfloat16) {
    const auto* const codes = reinterpret_cast<const std::uint16_t*>(run.plane.codes) + first;
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) to[k] = decoded_bfloat16(codes[k]);
    return;
  }
  const auto* const codes = reinterpret_cast<const std::uint8_t*>(run.plane.codes) + first;
  if (exponent == kNanExponent) return fill(to, count, float_of(kNanBits));
  if (run.second) {
    const std::uint32_t base = v_base(exponent);
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) to[k] = decoded_v(codes[k], base);
  } else {
    const float down = m_down(exponent);
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) to[k] = decoded_m(codes[k], down);
  }
}

// The codes behind a block. Several planes share these loops, a few hundred bytes of each at a time, which hardware
// does not foresee: without this, a step of three terms in bfloat16 took up to twice as long.
MTADAM_INLINE void prefetch_behind(const CodeRun& run, std::uint64_t first) {
  constexpr std::uint32_t kLine = 64;
  const std::uint32_t bytes = code_bytes(run.type) * kCodeBlock;
  const std::byte* const next = run.plane.codes + first * code_bytes(run.type) + bytes;
  for (std::uint32_t line = 0; line < bytes; line += kLine) MTADAM_PREFETCH(next + line);
}

void decode(const CodeRun& run, float* to) {
  for_code_blocks(run, [&](std::uint64_t first, std::uint32_t count, const std::uint8_t* exponent) {
    prefetch_behind(run, first);
    const std::uint32_t s = exponent == nullptr ? 0 : *exponent;
    if (count == kCodeBlock)
      decode_block<true>(run, first, count, s, to + first);
    else
      decode_block<false>(run, first, count, s, to + first);
  });
}

template <bool kWhole>
MTADAM_INLINE void round_to_bfloat16(std::uint16_t* codes, bool second, std::uint32_t given, float* values,
                                     const std::uint32_t* words, std::uint32_t stream) {
  const std::uint32_t count = end_of_block<kWhole>(given);
  if (second) {
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t code = drawn_bfloat16(values[k], draw_bfloat16(stream_word(words[k], stream)));
      codes[k] = static_cast<std::uint16_t>(code);
      values[k] = decoded_bfloat16(code);
    }
  } else {
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t code = nearest_bfloat16(values[k]);
      codes[k] = static_cast<std::uint16_t>(code);
      values[k] = decoded_bfloat16(code);
    }
  }
}

MTADAM_INLINE std::uint32_t largest_of(const float* values, std::uint32_t count) {
  std::uint32_t largest = 0;
  for (std::uint32_t k = 0; k < count; ++k) {
    const std::uint32_t bits = magnitude(values[k]);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// Returns the block's exponent.
template <bool kWhole>
MTADAM_INLINE std::uint32_t round_to_8_bits(std::uint8_t* codes, bool second, std::uint32_t given, float* values,
                                            const std::uint32_t* words, std::uint32_t stream) {
  const std::uint32_t count = end_of_block<kWhole>(given);
  const std::uint32_t largest = largest_of(values, count);
  const std::uint32_t s = second ? v_exponent(largest) : m_exponent(largest);
  if (s == kNanExponent) {
    for (std::uint32_t k = 0; k < count; ++k) codes[k] = 0;
    fill(values, count, float_of(kNanBits));
  } else if (second) {
    const std::uint32_t base = v_base(s);
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) {
      const Rounded v = rounded_v(values[k], base, draw_v(stream_word(words[k], stream)));
      codes[k] = static_cast<std::uint8_t>(v.code);
      values[k] = v.value;
    }
  } else {
    const float up = m_up(s), down = m_down(s);
    MTADAM_INDEPENDENT
    for (std::uint32_t k = 0; k < count; ++k) {
      const Rounded m = rounded_m(values[k], up, down, draw_m(stream_word(words[k], stream)));
      codes[k] = static_cast<std::uint8_t>(m.code);
      values[k] = m.value;
    }
  }
  return s;
}

template <bool kWhole>
MTADAM_INLINE void round_block(const CodeRun& run, std::uint64_t first, std::uint32_t count, std::uint8_t* exponent,
                               float* values, const std::uint32_t* words, std::uint32_t stream) {
  if (run.type == StateType::kBfloat16) {
    auto* const codes = reinterpret_cast<std::uint16_t*>(run.plane.codes) + first;
    round_to_bfloat16<kWhole>(codes, run.second, count, values, words, stream);
  } else {
    auto* const codes = reinterpret_cast<std::uint8_t*>(run.plane.codes) + first;
    *exponent = static_cast<std::uint8_t>(round_to_8_bits<kWhole>(codes, run.second, count, values, words, stream));
  }
}

void round(const CodeRun& run, float* values, const std::uint32_t* words, std::uint32_t stream) {
  for_code_blocks(run, [&](std::uint64_t first, std::uint32_t count, std::uint8_t* exponent) {
    if (count == kCodeBlock)
      round_block<true>(run, first, count, exponent, values + first, words + first, stream);
    else
      round_block<false>(run, first, count, exponent, values + first, words + first, stream);
  });
}

void raise(float* target, const float* source, std::uint64_t count) {
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < count; ++e) target[e] = larger(source[e], target[e]);
}

// ---- Addition -----------------------------------------------------------------------------------------------

void add(float* target, const float* source, std::uint64_t count) {
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < count; ++e) target[e] += source[e];
}

// ---- Narrow gradients -----------------------------------------------------------------------------------------

template <ElementType kType>
void add_narrow_type(std::uint16_t* target, const std::uint16_t* source, std::uint64_t count) {
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < count; ++e) {
    target[e] = static_cast<std::uint16_t>(nearest(kType, decoded(kType, target[e]) + decoded(kType, source[e])));
  }
}

void add_narrow(std::uint16_t* target, const std::uint16_t* source, std::uint64_t count, ElementType type) {
  type == ElementType::kFloat16 ? add_narrow_type<ElementType::kFloat16>(target, source, count)
                                : add_narrow_type<ElementType::kBfloat16>(target, source, count);
}

template <ElementType kType>
void widen_type(const std::uint16_t* from, std::uint64_t count, float* to) {
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < count; ++e) to[e] = decoded(kType, from[e]);
}

void widen(const std::uint16_t* from, std::uint64_t count, ElementType type, float* to) {
  type == ElementType::kFloat16 ? widen_type<ElementType::kFloat16>(from, count, to)
                                : widen_type<ElementType::kBfloat16>(from, count, to);
}

// ---- Narrow parameters ----------------------------------------------------------------------------------------

void load_parameters(const NarrowRun& run, float* to) {
  const std::uint16_t* const codes = run.codes;
  if (run.rounding != Rounding::kMaster) {
    widen(codes, run.count, run.type, to);
  } else if (run.type == ElementType::kBfloat16) {
    const auto* const low = reinterpret_cast<const std::uint16_t*>(run.master);
    MTADAM_INDEPENDENT
    for (std::uint64_t e = 0; e < run.count; ++e) to[e] = joined(codes[e], low[e]);
  } else {
    const auto* const master = reinterpret_cast<const float*>(run.master);
    MTADAM_INDEPENDENT
    for (std::uint64_t e = 0; e < run.count; ++e) to[e] = mastered_float16(codes[e], master[e]);
  }
}

template <ElementType kType>
void round_parameters(const NarrowRun& run, const float* from) {
  std::uint16_t* const codes = run.codes;
  if (run.rounding == Rounding::kStochastic) {
    const ChunkKey key = run.key;
    const std::uint32_t first = run.first, stream = parameter_stream();
    const auto count = static_cast<std::uint32_t>(run.count);
    MTADAM_INDEPENDENT
    for (std::uint32_t e = 0; e < count; ++e) {
      codes[e] = static_cast<std::uint16_t>(drawn(kType, from[e], stream_word(element_word(key, first + e), stream)));
    }
  } else {
    MTADAM_INDEPENDENT
    for (std::uint64_t e = 0; e < run.count; ++e) codes[e] = static_cast<std::uint16_t>(nearest(kType, from[e]));
  }
}

void store_parameters(const NarrowRun& run, const float* from) {
  if (run.type == ElementType::kFloat16) {
    round_parameters<ElementType::kFloat16>(run, from);
    if (run.rounding != Rounding::kMaster) return;
    auto* const master = reinterpret_cast<float*>(run.master);
    MTADAM_INDEPENDENT
    for (std::uint64_t e = 0; e < run.count; ++e) master[e] = from[e];
  } else if (run.rounding != Rounding::kMaster) {
    round_parameters<ElementType::kBfloat16>(run, from);
  } else {
    std::uint16_t* const codes = run.codes;
    auto* const low = reinterpret_cast<std::uint16_t*>(run.master);
    MTADAM_INDEPENDENT
    for (std::uint64_t e = 0; e < run.count; ++e) {
      const Halves halves = halved(from[e]);
      codes[e] = static_cast<std::uint16_t>(halves.code);
      low[e] = static_cast<std::uint16_t>(halves.low);
    }
  }
}

// ---- From run-time flags to a compiled loop -----------------------------------------------------------------

// Choice::loop<flag…>() for `flags`; one flag per recursion becomes a constant.
template <class Choice, bool... kFlags>
auto pick(const bool* flags) {
  if constexpr (sizeof...(kFlags) == Choice::kFlags) {
    return Choice::template loop<kFlags...>();
  } else {
    return *flags ? pick<Choice, kFlags..., true>(flags + 1) : pick<Choice, kFlags..., false>(flags + 1);
  }
}

struct Moments {
  static constexpr std::uint32_t kFlags = 4;
  template <bool kSummed, bool kAmsgrad, bool kCoupled, bool kSkips>
  static MomentsLoop loop() {
    return moments<kSummed, kAmsgrad, kCoupled, kSkips>;
  }
};

template <std::uint32_t kTerms>
struct Fused {
  static constexpr std::uint32_t kFlags = 6;
  template <bool kGradients, bool kSummed, bool kAmsgrad, bool kCoupled, bool kOneB, bool kDecoupled>
  static FusedLoop loop() {
    // With one term, kOneB would change nothing.
    using Form = FormOf<kGradients, kSummed, kAmsgrad, kCoupled, kOneB && kTerms != 1, false>;
    return fused<Form, kTerms, kDecoupled>;
  }
};

template <std::uint32_t kTerms>
struct Tile {
  static constexpr std::uint32_t kFlags = 6;
  template <bool kGradients, bool kSummed, bool kAmsgrad, bool kCoupled, bool kOneB, bool kSkips>
  static TileChoice loop() {
    if constexpr (kTerms > most_terms_of_pass(kSummed, kAmsgrad, kSkips && kGradients)) {
      return Tile<kTerms - 1>::template loop<kGradients, kSummed, kAmsgrad, kCoupled, kOneB, kSkips>();
    } else {
      return {tile<FormOf<kGradients, kSummed, kAmsgrad, kCoupled, kOneB, kSkips>, kTerms>, kTerms};
    }
  }
};

struct Move {
  static constexpr std::uint32_t kFlags = 5;
  template <bool kSummed, bool kAmsgrad, bool kOneB, bool kDecoupled, bool kDivided>
  static MoveLoop loop() {
    return move<FormOf<false, kSummed, kAmsgrad, false, kOneB, false>, kDecoupled, kDivided>;
  }
};

// W other than 1 only from G.
template <std::uint32_t kTerms>
struct Adam {
  static constexpr std::uint32_t kFlags = kTerms == 0 ? 4 : 3;
  template <bool kAmsgrad, bool kCoupled, bool kDecoupled, bool kDivided = false>
  static AdamLoop loop() {
    return adam<kTerms, kAmsgrad, kCoupled, kDecoupled, kDivided>;
  }
};

MomentsLoop find_moments(LoopForm form) {
  if (form.one_v) return form.skips ? gather<true> : gather<false>;
  const bool flags[] = {form.summed, form.amsgrad, form.coupled, form.skips};
  return pick<Moments>(flags);
}

// The choice for 1 to kFusedTerms terms.
template <template <std::uint32_t> class Choice>
FusedLoop pick_fused(std::uint32_t terms, const bool* flags) {
  static_assert(kFusedTerms == 3);
  switch (terms) {
    case 1:
      return pick<Choice<1>>(flags);
    case 2:
      return pick<Choice<2>>(flags);
    default:
      return pick<Choice<kFusedTerms>>(flags);
  }
}

FusedLoop find_fused(std::uint32_t terms, bool with_gradients, LoopForm form) {
  const bool flags[] = {with_gradients, form.summed, form.amsgrad, form.coupled, form.one_b, form.decoupled};
  return pick_fused<Fused>(terms, flags);
}

// The choice for `terms` terms; for more than a pass takes, that for a whole pass.
template <template <std::uint32_t> class Choice>
auto pick_for_pass(std::uint32_t terms, const bool* flags) {
  static_assert(kPassTerms == 5);
  switch (terms) {
    case 1:
      return pick<Choice<1>>(flags);
    case 2:
      return pick<Choice<2>>(flags);
    case 3:
      return pick<Choice<3>>(flags);
    case 4:
      return pick<Choice<4>>(flags);
    default:
      return pick<Choice<kPassTerms>>(flags);
  }
}

TileChoice find_tile(std::uint32_t terms, bool with_gradients, LoopForm form) {
  const bool flags[] = {with_gradients, form.summed, form.amsgrad, form.coupled, form.one_b, form.skips};
  return pick_for_pass<Tile>(terms, flags);
}

MoveLoop find_move(LoopForm form) {
  const bool flags[] = {form.summed, form.amsgrad, form.one_b, form.decoupled, form.shortened};
  return pick<Move>(flags);
}

AdamLoop find_adam(std::uint32_t terms, LoopForm form) {
  const bool flags[] = {form.amsgrad, form.coupled, form.decoupled, form.shortened};
  return terms == 0 ? pick<Adam<0>>(flags) : pick_for_pass<Adam>(terms, flags);
}

// ---- A step of a lean tensor --------------------------------------------------------------------------------

// Step 6 of all terms in a block, whose moments are float32.
template <class Form, std::uint32_t kTerms>
void block_moments(const TensorRun& given, const TermRun* runs) {
  const TensorRun run = given;
  const GroupElements k = run.group;
  const Terms<kTerms> terms(runs);
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    Element at{};
    if constexpr (Form::kCoupled) at.theta = run.theta[e];
    if constexpr (Form::kSummed) at.sum = decayed_sum(run.sum[e], k);
    pass<Form>(terms, e, at, true, k);
    if constexpr (Form::kSummed) run.sum[e] = at.sum;
  }
}

// The same where both moments are summed.
template <std::uint32_t kTerms, bool kCoupled>
void block_adam(const TensorRun& given, const TermRun* runs) {
  const TensorRun run = given;
  const GroupElements k = run.group;
  const Terms<kTerms> terms(runs);
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    const float gradient = decayed_gradient<kCoupled>(gather_element(terms, run, e), kCoupled ? run.theta[e] : 0.0f, k);
    run.sum[e] = first_moment(run.sum[e], gradient, k);
    run.v[e] = second_moment(run.v[e], gradient, k);
  }
}

template <std::uint32_t kTerms>
struct BlockMoments {
  static constexpr std::uint32_t kFlags = 2;
  template <bool kSummed, bool kCoupled>
  static FusedLoop loop() {
    return block_moments<FormOf<true, kSummed, false, kCoupled, true, false>, kTerms>;
  }
};

template <std::uint32_t kTerms>
struct BlockAdam {
  static constexpr std::uint32_t kFlags = 1;
  template <bool kCoupled>
  static FusedLoop loop() {
    return block_adam<kTerms, kCoupled>;
  }
};

FusedLoop find_block_moments(std::uint32_t terms, LoopForm form) {
  if (form.one_v) return pick_for_pass<BlockAdam>(terms, &form.coupled);
  const bool flags[] = {form.summed, form.coupled};
  return pick_fused<BlockMoments>(terms, flags);
}

// Block by block: in tiles of 256 elements, three terms took up to 1.4 times as long.
void lean(const LeanRun& run, const LeanTerm* parts, std::uint32_t terms, LoopForm form) {
  alignas(64) std::uint32_t words[kCodeBlock];
  alignas(64) float sum[kCodeBlock];
  alignas(64) float m[kFusedTerms][kCodeBlock];
  alignas(64) float v[kFusedTerms][kCodeBlock];

  struct Plane {
    CodeRun codes;
    float* values;
    std::uint32_t stream;
  };
  Plane planes[2 * kFusedTerms];
  std::uint32_t plane_count = 0;
  const auto add = [&](CodePlane plane, bool second, float* values, std::uint32_t stream) {
    planes[plane_count++] = {{plane, run.type, second, 0}, values, stream};
  };
  TermRun block_terms[kPassTerms];
  for (std::uint32_t i = 0; i < terms; ++i) {
    block_terms[i] = {parts[i].g, nullptr, nullptr, nullptr, parts[i].k};
    if (form.one_v) continue;
    add(parts[i].v, true, block_terms[i].v = v[i], parts[i].stream);
    if (!form.summed) add(parts[i].m, false, block_terms[i].m = m[i], parts[i].stream);
  }
  if (form.summed) add(run.sum, false, sum, shared_stream());
  if (form.one_v) add(run.v, true, v[0], shared_stream());

  TensorRun block{};
  block.theta = run.theta;
  block.sum = sum;
  block.v = v[0];
  block.shared = run.shared;
  block.group = run.group;
  block.w = 1;

  const FusedLoop moments_loop = find_block_moments(terms, form);
  // Where both moments are summed, step 7 takes V as the v of a single term.
  TermRun pair{nullptr, nullptr, v[0], nullptr, run.shared};
  const FusedLoop move_loop = find_fused(form.one_v ? 1 : terms, false, form);
  for (std::uint64_t first = 0; first < run.count; first += kCodeBlock) {
    const std::uint64_t left = run.count - first;
    block.count = left < kCodeBlock ? left : kCodeBlock;
    draw(run.key, run.first + static_cast<std::uint32_t>(first), block.count, words);
    for (std::uint32_t k = 0; k < plane_count; ++k) {
      planes[k].codes.count = block.count;
      decode(planes[k].codes, planes[k].values);
    }
    moments_loop(block, block_terms);
    for (std::uint32_t k = 0; k < plane_count; ++k) {
      CodeRun& codes = planes[k].codes;
      round(codes, planes[k].values, words, planes[k].stream);
      codes.plane.codes += kCodeBlock * code_bytes(run.type);
      if (run.type == StateType::k8bit) ++codes.plane.exponents;
    }
    move_loop(block, form.one_v ? &pair : block_terms);
    block.theta += kCodeBlock;
    for (std::uint32_t i = 0; i < terms; ++i) block_terms[i].g += kCodeBlock;
  }
}

}  // namespace

extern const Loops MTADAM_LOOPS;
const Loops MTADAM_LOOPS = {sum_of_squares,
                            add_squares,
                            total_of_lanes,
                            dot_product,
                            find_moments,
                            find_fused,
                            find_tile,
                            find_move,
                            find_adam,
                            draw,
                            decode,
                            round,
                            lean,
                            raise,
                            add,
                            add_narrow,
                            widen,
                            load_parameters,
                            store_parameters};

}  // namespace mtadam
