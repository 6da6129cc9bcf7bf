#pragma once

#include <cmath>

#include "math/portable.h"
#include "math/powers.h"
#include "math/tables.h"

// The arithmetic of one (term, layer) and of one (term, tensor): docs/algorithm.md, steps 1 to 4, the clocks of step 6,
// and "Scalars". In double, once per step; results for the elements are rounded to float32 once.

namespace mtadam {

/// The gradient of a term for a tensor in this call; null = absent.
MTADAM_INLINE const float* gradient_of(const Tables& tables, const Call& call, std::uint32_t term,
                                       std::uint32_t tensor) {
  return call.gradients[static_cast<std::uint64_t>(term - call.first) * tables.tensor_count + tensor];
}

/// Whether a term takes part in the open step for a tensor; false until its clock has advanced.
MTADAM_INLINE bool takes_part(const Clock& clock, std::uint64_t step) { return clock.step == step; }

/// Whether the call has a gradient of the term for any tensor of the layer.
MTADAM_INLINE bool present_in_layer(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer) {
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    if (gradient_of(tables, call, term, tables.members[layer.member + k]) != nullptr) return true;
  }
  return false;
}

/// n, step 2. `initial` is c of `initialNorm: c`, or 0 for "first".
MTADAM_INLINE double moving_norm(const NormState& norm, double r, double beta3, double initial) {
  if (norm.occurred == 0 && initial == 0) return r;
  const double n = norm.occurred == 0 ? initial : norm.n;
  return beta3 * n + (1 - beta3) * r;
}

/// Steps 1 and 2 for one term present in one layer, from the sum of its squares. With kPropagate, a norm that is not
/// finite is used like any other. Otherwise it only adds to `skipped`, and the term counts as absent in this layer.
/// Returns false where the whole step must be rolled back.
MTADAM_INLINE bool record_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index,
                               double sum_of_squares) {
  const Term& state = tables.terms[term];
  NormState& norm = state.norms[layer_index];
  norm.r = std::sqrt(sum_of_squares) / *tables.gradient_scale;
  if (tables.non_finite != NonFinite::kPropagate && !std::isfinite(norm.r)) {
    norm.skipped += 1;
    return tables.non_finite != NonFinite::kSkipStep;
  }
  if (tables.non_finite == NonFinite::kSkipStep) state.former_norms[layer_index] = norm;
  // Any tensor's group will do: groups with different β₃ in one layer were rejected before.
  const Tensor& any = tables.tensors[tables.members[tables.layers[layer_index].member]];
  norm.n = moving_norm(norm, norm.r, tables.groups[any.group].beta3, tables.initial_norm);
  norm.step = *tables.shared.step;
  norm.occurred = 1;
  return true;
}

/// Whether a term's norm may anchor a layer. That of an absent term may: it has the n of its last step.
MTADAM_INLINE bool can_anchor(const NormState& norm) { return norm.occurred != 0 && norm.n > kNormFloor; }

/// n_a, step 3; 0 where no term can anchor the layer (then none is above the floor, and step 4 needs no anchor).
MTADAM_INLINE double anchor_norm(const Tables& tables, std::uint32_t layer_index) {
  if (tables.anchor == Anchor::kTerm) {
    const NormState& named = tables.terms[tables.anchor_term].norms[layer_index];
    if (can_anchor(named)) return named.n;
  }
  double largest = 0, logarithms = 0;
  std::uint32_t count = 0;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const NormState& norm = tables.terms[term].norms[layer_index];
    if (!can_anchor(norm)) continue;
    if (tables.anchor == Anchor::kFirst || tables.anchor == Anchor::kTerm) return norm.n;
    if (norm.n > largest) largest = norm.n;
    if (tables.anchor == Anchor::kMean) logarithms += portable_log2(norm.n);
    count += 1;
  }
  if (tables.anchor == Anchor::kMax || count == 0) return largest;
  return portable_exp2(logarithms / count);
}

/// qᵖ of step 4.
MTADAM_INLINE double balanced_quotient(double q, double p) {
  if (p == 1) return q;
  if (p == 0) return 1;
  if (p == 0.5) return std::sqrt(q);
  return portable_exp2(p * portable_log2(q));
}

/// s, step 4.
MTADAM_INLINE double balancing_scale(double weight, double anchor, double n, double p) {
  if (weight == 0) return 0;
  return n > kNormFloor ? weight * balanced_quotient(anchor / n, p) : 1;
}

/// b of the terms' and the shared clock.
MTADAM_INLINE float second_correction(const Clock& clock) { return static_cast<float>(std::sqrt(1 - clock.p2)); }

/// t, P₁ and P₂ after one more step (step 6), and c and b, which follow from them.
MTADAM_INLINE void advance_clock(Clock& clock, Coefficients& out, const Group& group, std::uint64_t step) {
  clock.t += 1;
  clock.p1 *= group.beta1;
  clock.p2 *= group.beta2;
  clock.step = step;
  out.c = static_cast<float>(group.lr / (1 - clock.p1));
  out.b = second_correction(clock);
}

/// W after one more term of a step. Earlier terms keep the weights of their calls.
MTADAM_INLINE void add_weight(StepDivisor& divisor, double weight, std::uint64_t step) {
  const bool first = divisor.step != step;
  divisor.sum = first ? weight : divisor.sum + weight;
  divisor.max = first || weight > divisor.max ? weight : divisor.max;
  divisor.step = step;
  divisor.w = divisor.max == 0 ? 1.0f : static_cast<float>(divisor.sum / divisor.max);
}

/// Step 4 for a term that takes part in a layer whose anchor is known.
MTADAM_INLINE void scale_term(const Tables& tables, std::uint32_t term, std::uint32_t layer_index, double anchor) {
  NormState& norm = tables.terms[term].norms[layer_index];
  if (norm.step != *tables.shared.step) return;
  norm.s = balancing_scale(tables.weights[term], anchor, norm.n, tables.balance);
}

/// Whether the call has a gradient of a term for a tensor in whose layer the term takes part.
MTADAM_INLINE bool reaches(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t tensor_index,
                           std::uint32_t layer_index) {
  return tables.terms[term].norms[layer_index].step == *tables.shared.step &&
         gradient_of(tables, call, term, tensor_index) != nullptr;
}

/// The clock, f, c and b of a term that takes part in a tensor's step, after scale_term() for the layer.
MTADAM_INLINE void begin_term(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index,
                              std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  const Group& group = tables.groups[tables.tensors[tensor_index].group];
  Coefficients& out = state.coefficients[tensor_index];
  out.f = static_cast<float>(group.sign * state.norms[layer_index].s / *tables.gradient_scale);
  Clock& clock = state.clocks[tensor_index];
  if (tables.non_finite == NonFinite::kSkipStep) state.former_clocks[tensor_index] = clock;
  advance_clock(clock, out, group, *tables.shared.step);
}

/// The values that the terms of the call share in a tensor, in their order: W where the step is the mean, and the clock
/// T where first moments are summed.
MTADAM_INLINE void begin_shared(const Tables& tables, const Call& call, std::uint32_t tensor_index,
                                std::uint32_t layer_index) {
  if (tables.shared.divisors == nullptr && !tables.summed) return;
  const std::uint64_t step = *tables.shared.step;
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (!reaches(tables, call, term, tensor_index, layer_index)) continue;
    if (tables.shared.divisors != nullptr) {
      add_weight(tables.shared.divisors[tensor_index], tables.weights[term], step);
    }
    if (!tables.summed) continue;
    Clock& clock = tables.shared.clocks[tensor_index];
    if (takes_part(clock, step)) continue;
    if (tables.non_finite == NonFinite::kSkipStep) tables.shared.former_clocks[tensor_index] = clock;
    advance_clock(clock, tables.shared.coefficients[tensor_index], tables.groups[tables.tensors[tensor_index].group],
                  step);
    tables.shared.opener[tensor_index] = term;
  }
}

/// Whether a term takes part in the open step in a layer with a gradient that has a direction.
MTADAM_INLINE bool has_direction(const NormState& norm, std::uint64_t step) {
  return norm.step == step && norm.r > 0 && std::isfinite(norm.r);
}

/// The cosine between two terms' gradients in a layer, from their dot product over the tensors where both are present;
/// NaN where a term takes no part in the open step, or its norm is 0 or not finite. σ is divided out of r, but not of
/// the dot product.
MTADAM_INLINE float gradient_cosine(const Tables& tables, std::uint32_t earlier, std::uint32_t later,
                                    std::uint32_t layer_index, double dot) {
  const NormState& a = tables.terms[earlier].norms[layer_index];
  const NormState& b = tables.terms[later].norms[layer_index];
  const std::uint64_t step = *tables.shared.step;
  if (!has_direction(a, step) || !has_direction(b, step)) return NAN;
  if (earlier == later) return 1;
  const double scale = *tables.gradient_scale;
  const double cosine = dot / ((a.r * scale) * (b.r * scale));
  // Rounding may exceed the range.
  return static_cast<float>(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

/// The dot products of two terms' gradients, by slot; earlier < later.
MTADAM_INLINE double* dots_of(const Tables& tables, std::uint32_t earlier, std::uint32_t later) {
  return tables.terms[later].dots + earlier * tables.chunk_count;
}

/// The cosine between two terms' gradients in a layer; earlier <= later.
MTADAM_INLINE float& cosine_of(const Tables& tables, std::uint32_t earlier, std::uint32_t later,
                               std::uint32_t layer_index) {
  return tables.terms[later].cosines[static_cast<std::uint64_t>(earlier) * tables.layer_count + layer_index];
}

// ---- Rolling a step back (NonFinite::kSkipStep): norms, scales and clocks return to their values before the open
// step, so that no term takes part in it. r and the counts of skipped norms stay.

MTADAM_INLINE void roll_back_layer(const Tables& tables, std::uint32_t layer_index) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    NormState& norm = tables.terms[term].norms[layer_index];
    if (norm.step != *tables.shared.step) continue;
    const NormState& former = tables.terms[term].former_norms[layer_index];
    norm.n = former.n;
    norm.s = former.s;
    norm.step = former.step;
    norm.occurred = former.occurred;
  }
}

/// f and c are written again when the term next takes part; b may be read before, since with summed moments absent
/// terms count in D.
MTADAM_INLINE void roll_back_clock(Clock& clock, const Clock& former, Coefficients& out) {
  clock = former;
  out.b = second_correction(clock);
}

MTADAM_INLINE void roll_back_tensor(const Tables& tables, std::uint32_t tensor_index) {
  const std::uint64_t step = *tables.shared.step;
  const Shared& shared = tables.shared;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const Term& state = tables.terms[term];
    if (!takes_part(state.clocks[tensor_index], step)) continue;
    roll_back_clock(state.clocks[tensor_index], state.former_clocks[tensor_index], state.coefficients[tensor_index]);
  }
  if (!tables.summed || !takes_part(shared.clocks[tensor_index], step)) return;
  roll_back_clock(shared.clocks[tensor_index], shared.former_clocks[tensor_index], shared.coefficients[tensor_index]);
}

}  // namespace mtadam
