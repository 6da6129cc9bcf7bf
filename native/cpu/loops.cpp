// The element loops, compiled once per instruction set (MTADAM_LOOPS names this copy's table). Only what
// kernels/moments.h says is computed here; everything has internal linkage and no standard-library function is used,
// so that no code of a wider instruction set can end up where it does not belong.

#include "cpu/loops.h"

#include "kernels/moments.h"

// Runs never overlap: the optimizer refuses parameters and gradients that do. Said per loop, since compilers give up
// on run-time overlap checks for this many arrays.
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

namespace mtadam {
namespace {

constexpr std::uint32_t kStride = kChunkLanes;
constexpr std::uint32_t kSteps = kSegmentElements / kChunkLanes;

// A segment: lane k mod 32 adds its eight products in the order of k. Those of float32 are exact in float64.
MTADAM_INLINE void add_segment(double* lanes, const float* a, const float* b) {
  double segment[kStride] = {};
  for (std::uint32_t k = 0; k < kSteps; ++k) {
    MTADAM_INDEPENDENT
    for (std::uint32_t lane = 0; lane < kStride; ++lane) {
      segment[lane] += static_cast<double>(a[k * kStride + lane]) * static_cast<double>(b[k * kStride + lane]);
    }
  }
  MTADAM_INDEPENDENT
  for (std::uint32_t lane = 0; lane < kStride; ++lane) lanes[lane] += segment[lane];
}

MTADAM_INLINE double sum_of_products(const float* a, const float* b, std::uint32_t count) {
  double lanes[kStride] = {};
  std::uint32_t done = 0;
  for (; done + kSegmentElements <= count; done += kSegmentElements) add_segment(lanes, a + done, b + done);
  if (done < count) {
    float padded[2][kSegmentElements] = {};
    for (std::uint32_t k = 0; done + k < count; ++k) {
      padded[0][k] = a[done + k];
      padded[1][k] = b[done + k];
    }
    add_segment(lanes, padded[0], padded[1]);
  }
  for (std::uint32_t half = kStride / 2; half > 0; half /= 2) {
    for (std::uint32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

double sum_of_squares(const float* g, std::uint32_t count) { return sum_of_products(g, g, count); }

double dot_product(const float* a, const float* b, std::uint32_t count) { return sum_of_products(a, b, count); }

// ---- One term alone -----------------------------------------------------------------------------------------

template <bool kSummed, bool kAmsgrad, bool kCoupled, bool kOpens>
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
    const float second = second_moment(v[e], gradient, k);
    v[e] = second;
    // The shared x takes its share of v in step 7.
    if constexpr (kAmsgrad && !kSummed) x[e] = larger(second, x[e]);
    if constexpr (kSummed) {
      sum[e] = added_to_sum(kOpens ? decayed_sum(sum[e], k) : sum[e], gradient, k);
    } else {
      m[e] = first_moment(m[e], gradient, k);
    }
  }
}

template <bool kSummed, bool kAmsgrad, bool kCoupled>
void moments(const TensorRun& run, const TermRun& term, bool opens) {
  if (kSummed && opens) {
    term_moments<kSummed, kAmsgrad, kCoupled, true>(run, term);
  } else {
    term_moments<kSummed, kAmsgrad, kCoupled, false>(run, term);
  }
}

// ---- A few terms in one loop --------------------------------------------------------------------------------

template <std::uint32_t kTerms, bool kGradients, bool kSummed, bool kAmsgrad, bool kCoupled, bool kDecoupled,
          bool kShortened>
void fused(const TensorRun& run, const TermRun* terms) {
  const GroupElements k = run.group;
  const float* g[kTerms];
  float* m[kTerms];
  float* v[kTerms];
  float* x[kTerms];
  float f[kTerms], b[kTerms], c[kTerms];
  for (std::uint32_t i = 0; i < kTerms; ++i) {
    g[i] = terms[i].g;
    m[i] = terms[i].m;
    v[i] = terms[i].v;
    x[i] = terms[i].x;
    f[i] = terms[i].k.f;
    c[i] = terms[i].k.c;
    b[i] = terms[i].k.b;
  }
  float* const theta = run.theta;
  float* const sum = run.sum;
  float* const sum_x = run.sum_x;
  const Coefficients shared = run.shared;
  const float w = run.w;
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    const float at = theta[e];
    float u = 0, d = 0, total = 0, largest = 0;
    if constexpr (kSummed) total = kGradients ? decayed_sum(sum[e], k) : sum[e];
    if constexpr (kSummed && kAmsgrad) largest = sum_x[e];
    MTADAM_UNROLL
    for (std::uint32_t i = 0; i < kTerms; ++i) {
      float second = v[i][e];
      if constexpr (kGradients) {
        const float gradient = balanced_gradient<kCoupled>(g[i][e], at, f[i], k);
        v[i][e] = second = second_moment(second, gradient, k);
        if constexpr (kSummed) {
          total = added_to_sum(total, gradient, k);
        } else {
          m[i][e] = first_moment(m[i][e], gradient, k);
        }
      }
      if constexpr (kAmsgrad && kSummed) {
        largest = larger(second, largest);
      } else if constexpr (kAmsgrad) {
        if constexpr (kGradients) x[i][e] = larger(second, x[i][e]);
        second = x[i][e];
      }
      if constexpr (!kSummed) {
        const float part = step_part(m[i][e], c[i]);
        u = i == 0 ? part : u + part;
      }
      if constexpr (!kSummed || !kAmsgrad) {
        const float bound = denominator(second, b[i], k);
        d = i == 0 ? bound : larger(bound, d);
      }
    }
    if constexpr (kSummed) {
      u = step_part(total, shared.c);
      if constexpr (kAmsgrad) d = denominator(largest, shared.b, k);
      if constexpr (kGradients) sum[e] = total;
      if constexpr (kAmsgrad) sum_x[e] = largest;
    }
    theta[e] = moved<kDecoupled>(at, adam_step<kShortened>(u, d, w), k);
  }
}

// ---- Tiles, term after term ---------------------------------------------------------------------------------

template <bool kGradient, bool kSummed, bool kAmsgrad, bool kCoupled, bool kOpens, bool kFirst>
void tile_term(const TensorRun& run, const TermRun& term, float* d, float* u) {
  const GroupElements k = run.group;
  const Coefficients own = term.k;
  const float* const theta = run.theta;
  const float* const g = term.g;
  float* const m = term.m;
  float* const v = term.v;
  float* const x = kSummed ? run.sum_x : term.x;
  float* const sum = run.sum;
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    float second = v[e];
    if constexpr (kGradient) {
      const float gradient = balanced_gradient<kCoupled>(g[e], kCoupled ? theta[e] : 0.0f, own.f, k);
      v[e] = second = second_moment(second, gradient, k);
      if constexpr (kSummed) {
        sum[e] = added_to_sum(kOpens ? decayed_sum(sum[e], k) : sum[e], gradient, k);
      } else {
        m[e] = first_moment(m[e], gradient, k);
      }
    }
    if constexpr (kAmsgrad) {
      if constexpr (kGradient || kSummed) x[e] = larger(second, x[e]);
      second = x[e];
    }
    if constexpr (!kSummed) {
      const float part = step_part(m[e], own.c);
      u[e] = kFirst ? part : u[e] + part;
    }
    if constexpr (!kSummed || !kAmsgrad) {
      const float bound = denominator(second, own.b, k);
      d[e] = kFirst ? bound : larger(bound, d[e]);
    }
  }
}

template <bool kGradient, bool kSummed, bool kAmsgrad, bool kCoupled>
void tile(const TensorRun& run, const TermRun& term, const TilePass& pass) {
  // What comes first of all also opens the step, if it brings a gradient.
  if (pass.first) {
    tile_term<kGradient, kSummed, kAmsgrad, kCoupled, true, true>(run, term, pass.d, pass.u);
  } else if (pass.opens) {
    tile_term<kGradient, kSummed, kAmsgrad, kCoupled, true, false>(run, term, pass.d, pass.u);
  } else {
    tile_term<kGradient, kSummed, kAmsgrad, kCoupled, false, false>(run, term, pass.d, pass.u);
  }
}

template <bool kSummed, bool kAmsgrad, bool kDecoupled, bool kShortened>
void move(const TensorRun& run, const float* d, const float* u) {
  const GroupElements k = run.group;
  const Coefficients shared = run.shared;
  const float w = run.w;
  float* const theta = run.theta;
  const float* const sum = run.sum;
  const float* const sum_x = run.sum_x;
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < run.count; ++e) {
    const float step = kSummed ? step_part(sum[e], shared.c) : u[e];
    const float bound = kSummed && kAmsgrad ? denominator(sum_x[e], shared.b, k) : d[e];
    theta[e] = moved<kDecoupled>(theta[e], adam_step<kShortened>(step, bound, w), k);
  }
}

// ---- Elsewhere ----------------------------------------------------------------------------------------------

void add(float* target, const float* source, std::uint64_t count) {
  MTADAM_INDEPENDENT
  for (std::uint64_t e = 0; e < count; ++e) target[e] += source[e];
}

// ---- From run-time flags to a compiled loop -----------------------------------------------------------------

// Each picker consumes one flag per recursion and ends at the instantiation it names.

template <bool... kFlags>
MomentsLoop pick_moments(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 3) {
    return moments<kFlags...>;
  } else {
    return *flags ? pick_moments<kFlags..., true>(flags + 1) : pick_moments<kFlags..., false>(flags + 1);
  }
}

template <std::uint32_t kTerms, bool... kFlags>
FusedLoop pick_fused(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 6) {
    return fused<kTerms, kFlags...>;
  } else {
    return *flags ? pick_fused<kTerms, kFlags..., true>(flags + 1) : pick_fused<kTerms, kFlags..., false>(flags + 1);
  }
}

template <bool... kFlags>
TileLoop pick_tile(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 4) {
    return tile<kFlags...>;
  } else {
    return *flags ? pick_tile<kFlags..., true>(flags + 1) : pick_tile<kFlags..., false>(flags + 1);
  }
}

template <bool... kFlags>
MoveLoop pick_move(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 4) {
    return move<kFlags...>;
  } else {
    return *flags ? pick_move<kFlags..., true>(flags + 1) : pick_move<kFlags..., false>(flags + 1);
  }
}

MomentsLoop find_moments(LoopForm form) {
  const bool flags[] = {form.summed, form.amsgrad, form.coupled};
  return pick_moments<>(flags);
}

FusedLoop find_fused(std::uint32_t terms, bool with_gradients, LoopForm form) {
  const bool flags[] = {with_gradients, form.summed, form.amsgrad, form.coupled, form.decoupled, form.shortened};
  switch (terms) {
    case 1:
      return pick_fused<1>(flags);
    case 2:
      return pick_fused<2>(flags);
    default:
      return pick_fused<kFusedTerms>(flags);
  }
}

TileLoop find_tile(bool with_gradient, LoopForm form) {
  const bool flags[] = {with_gradient, form.summed, form.amsgrad, form.coupled};
  return pick_tile<>(flags);
}

MoveLoop find_move(LoopForm form) {
  const bool flags[] = {form.summed, form.amsgrad, form.decoupled, form.shortened};
  return pick_move<>(flags);
}

}  // namespace

extern const Loops MTADAM_LOOPS;
const Loops MTADAM_LOOPS = {sum_of_squares, dot_product, find_moments, find_fused, find_tile, find_move, add};

}  // namespace mtadam
