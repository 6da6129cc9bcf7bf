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

/// The address of element `first` of a parameter.
MTADAM_INLINE float* parameter_at(const Tables& tables, std::uint32_t tensor, std::uint64_t first) {
  return reinterpret_cast<float*>(reinterpret_cast<char*>(tables.parameters[tensor]) +
                                  first * element_bytes(tables.tensors[tensor].type));
}

/// The address of element `first` of a gradient that is not absent.
MTADAM_INLINE const float* gradient_at(const Tensor& tensor, const float* gradient, std::uint64_t first) {
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(gradient) +
                                        first * element_bytes(tensor.gradient));
}

/// Whether the call has gradients of a term.
MTADAM_INLINE bool is_called(const Call& call, std::uint32_t term) { return term - call.first < call.count; }

/// Whether a term takes part in the open step for a tensor; false until its clock has advanced.
MTADAM_INLINE bool takes_part(const Clock& clock, std::uint64_t step) { return clock.step == step; }

/// Whether the call has a gradient of the term for any tensor of the layer.
MTADAM_INLINE bool present_in_layer(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer) {
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    if (gradient_of(tables, call, term, tables.members[layer.member + k]) != nullptr) return true;
  }
  return false;
}

/// Step 2: n or q after one more sample. `occurred`: whether there is an average; `initial` is what it starts from, 0
/// for the first sample.
MTADAM_INLINE double moving_average(bool occurred, double average, double sample, double beta3, double initial) {
  if (!occurred && initial == 0) return sample;
  return beta3 * (occurred ? average : initial) + (1 - beta3) * sample;
}

/// β₃ of a layer. There is one: groups that disagree inside a layer are refused before a step gets here.
MTADAM_INLINE double beta3_of(const Tables& tables, std::uint32_t layer_index) {
  const Tensor& any = tables.tensors[tables.members[tables.layers[layer_index].member]];
  return tables.groups[any.group].beta3;
}

/// Whether a norm or its square stays as it is: the gradient is 0, and silence is to rest.
MTADAM_INLINE bool rests(const Tables& tables, double r) { return tables.rest && r == 0; }

/// Whether an average n or q has started. Where silence is to rest, gradients of 0 do not start it: from 0, it would
/// take 1/(1 − β₃) steps to reach r, and scales would be as much too large.
MTADAM_INLINE bool has_started(const Tables& tables, bool occurred, double average) {
  return occurred && !(tables.rest && average == 0);
}

/// Step 1 for one term present in one layer, from the sum of its squares. False where r is not finite and is not to
/// propagate: it is counted, and the term counts as absent.
MTADAM_INLINE bool take_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index,
                             double sum_of_squares) {
  NormState& norm = tables.terms[term].norms[layer_index];
  norm.r = std::sqrt(sum_of_squares) / *tables.gradient_scale;
  if (tables.non_finite == NonFinite::kPropagate || std::isfinite(norm.r)) return true;
  norm.skipped += 1;
  return false;
}

MTADAM_INLINE bool keeps_former(const Tables& tables) { return keeps_former(tables.non_finite, tables.network); }

/// Step 2: n of a layer that is a unit, from its r.
MTADAM_INLINE double next_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  const NormState& norm = tables.terms[term].norms[layer_index];
  if (norm.occurred != 0 && rests(tables, norm.r)) return norm.n;
  const bool started = has_started(tables, norm.occurred != 0, norm.n);
  return moving_average(started, norm.n, norm.r, beta3_of(tables, layer_index), tables.initial_norm);
}

/// The term takes part in the layer, with this n.
MTADAM_INLINE void record_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index, double n) {
  const Term& state = tables.terms[term];
  NormState& norm = state.norms[layer_index];
  state.former_norms[layer_index] = norm;
  norm.n = n;
  norm.step = *tables.shared.step;
  norm.occurred = kOccurred;
}

/// n of a term in a layer that is a unit; 0 where it never occurred. A layer of one tensor that has left the network's
/// unit still shows that unit's n where the term is absent: its own follows from q.
MTADAM_INLINE double norm_of_layer(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  if (tables.network && tables.layers[layer_index].members == 1) {
    return std::sqrt(state.squares[tables.members[tables.layers[layer_index].member]]);
  }
  const NormState& norm = state.norms[layer_index];
  return norm.occurred == 0 ? 0 : norm.n;
}

/// Whether n may anchor a unit. The term may be absent now: n is then that of its last step.
MTADAM_INLINE bool can_anchor(double n) { return n > kNormFloor; }

/// The norm that a unit's terms are scaled to.
struct AnchorNorm {
  double n;  // n_a; 0 where no term can anchor the unit (then none is above the floor; step 4 needs no anchor)
  std::uint32_t term;  // the term whose norm n is; kNoTerm for a mean or no anchor
};
constexpr std::uint32_t kNoTerm = ~std::uint32_t{0};

/// Step 3. `norm_of(term)` is n, 0 where the term never occurred.
template <class NormOf>
MTADAM_INLINE AnchorNorm anchor_norm(const Tables& tables, const NormOf& norm_of) {
  if (tables.anchor == Anchor::kTerm) {
    const double named = norm_of(tables.anchor_term);
    if (can_anchor(named)) return {named, tables.anchor_term};
  }
  AnchorNorm largest{0, kNoTerm};
  double logarithms = 0;
  std::uint32_t count = 0;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const double n = norm_of(term);
    if (!can_anchor(n)) continue;
    if (tables.anchor == Anchor::kFirst || tables.anchor == Anchor::kTerm) return {n, term};
    if (n > largest.n) largest = {n, term};
    if (tables.anchor == Anchor::kMean) logarithms += portable_log2(n);
    count += 1;
  }
  if (tables.anchor == Anchor::kMax || count == 0) return largest;
  return {portable_exp2(logarithms / count), kNoTerm};
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

/// Whether a term takes part in the unit of `norm`, and its gradient would leave float32 when scaled by s. It then
/// counts as not finite.
MTADAM_INLINE bool leaves_float32(const Tables& tables, const NormState& norm, double s) {
  if (tables.non_finite == NonFinite::kPropagate || norm.step != *tables.shared.step) return false;
  return !(s * norm.r <= kLargestScaledNorm) || !std::isfinite(static_cast<float>(s / *tables.gradient_scale));
}

/// Step 4 for a term, if it takes part in the unit of `norm`, whose anchor is known. False where it leaves float32.
MTADAM_INLINE bool scale_term(const Tables& tables, std::uint32_t term, NormState& norm, double anchor) {
  if (norm.step != *tables.shared.step) return true;
  norm.s = balancing_scale(tables.weights[term], anchor, norm.n, tables.balance);
  return !leaves_float32(tables, norm, norm.s);
}

/// Whether the call has a gradient of a term for a tensor in whose layer the term takes part.
MTADAM_INLINE bool reaches(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t tensor_index,
                           std::uint32_t layer_index) {
  return tables.terms[term].norms[layer_index].step == *tables.shared.step &&
         gradient_of(tables, call, term, tensor_index) != nullptr;
}

/// Whether the layer is part of the network's unit in the open step.
MTADAM_INLINE bool is_joined(const Tables& tables, std::uint32_t layer_index) {
  return tables.network && tables.shared.joined[layer_index] == *tables.shared.step;
}

/// f, from s.
MTADAM_INLINE float gradient_factor(const Tables& tables, const Group& group, double scale) {
  return static_cast<float>(group.sign * scale / *tables.gradient_scale);
}

/// The clock, f, c and b of a term that takes part in a tensor's step. Its layer is scaled, or else part of the
/// network's unit: f is then that unit's, but for its sign.
MTADAM_INLINE void begin_term(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index,
                              std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  const Group& group = tables.groups[tables.tensors[tensor_index].group];
  Coefficients& out = state.coefficients[tensor_index];
  const double scale = is_joined(tables, layer_index) ? *tables.gradient_scale : state.norms[layer_index].s;
  out.f = gradient_factor(tables, group, scale);
  Clock& clock = state.clocks[tensor_index];
  if (keeps_former(tables)) state.former_clocks[tensor_index] = clock;
  advance_clock(clock, out, group, *tables.shared.step);
}

/// The values that the terms of the call share in a tensor, in their order: W where the step is the mean, and the clock
/// T where first moments are summed.
MTADAM_INLINE void begin_shared(const Tables& tables, const Call& call, std::uint32_t tensor_index,
                                std::uint32_t layer_index) {
  if (tables.shared.divisors == nullptr && !tables.summed) return;
  const std::uint64_t step = *tables.shared.step;
  if (tables.shared.former_divisors != nullptr) {
    tables.shared.former_divisors[tensor_index] = tables.shared.divisors[tensor_index];
  }
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (!reaches(tables, call, term, tensor_index, layer_index)) continue;
    if (tables.shared.divisors != nullptr) {
      add_weight(tables.shared.divisors[tensor_index], tables.weights[term], step);
    }
    if (!tables.summed) continue;
    Clock& clock = tables.shared.clocks[tensor_index];
    if (takes_part(clock, step)) continue;
    if (tables.shared.former_clocks != nullptr) tables.shared.former_clocks[tensor_index] = clock;
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
  return tables.terms[later].dots + earlier * tables.slot_count;
}

/// The cosine between two terms' gradients in a layer; earlier <= later.
MTADAM_INLINE float& cosine_of(const Tables& tables, std::uint32_t earlier, std::uint32_t later,
                               std::uint32_t layer_index) {
  return tables.terms[later].cosines[static_cast<std::uint64_t>(earlier) * tables.layer_count + layer_index];
}

// ---- Rolling a step back (NonFinite::kSkipStep), or a term's part in a unit: norms, scales and clocks return to their
// values before the open step, so that no term, or not that term, takes part in it. r and the counts of skipped norms
// stay.

MTADAM_INLINE void roll_back_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  NormState& norm = tables.terms[term].norms[layer_index];
  const NormState& former = tables.terms[term].former_norms[layer_index];
  norm.n = former.n;
  norm.s = former.s;
  norm.step = former.step;
  norm.occurred = former.occurred;
}

MTADAM_INLINE void roll_back_layer(const Tables& tables, std::uint32_t layer_index) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    if (tables.terms[term].norms[layer_index].step == *tables.shared.step) roll_back_norm(tables, term, layer_index);
  }
}

/// f and c are written again when the term next takes part; b may be read before, since with summed moments absent
/// terms count in D.
MTADAM_INLINE void roll_back_clock(Clock& clock, const Clock& former, Coefficients& out) {
  clock = former;
  out.b = second_correction(clock);
}

/// The clock of a term that takes part in a tensor's step, and q.
MTADAM_INLINE void roll_back_term(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index) {
  const Term& state = tables.terms[term];
  roll_back_clock(state.clocks[tensor_index], state.former_clocks[tensor_index], state.coefficients[tensor_index]);
  if (tables.network) state.squares[tensor_index] = state.former_squares[tensor_index];
}

/// The clock T, if some term takes part in the tensor's step.
MTADAM_INLINE void roll_back_shared(const Tables& tables, std::uint32_t tensor_index) {
  const Shared& shared = tables.shared;
  if (!tables.summed || !takes_part(shared.clocks[tensor_index], *shared.step)) return;
  roll_back_clock(shared.clocks[tensor_index], shared.former_clocks[tensor_index], shared.coefficients[tensor_index]);
}

MTADAM_INLINE void roll_back_tensor(const Tables& tables, std::uint32_t tensor_index) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    if (!takes_part(tables.terms[term].clocks[tensor_index], *tables.shared.step)) continue;
    roll_back_term(tables, term, tensor_index);
  }
  roll_back_shared(tables, tensor_index);
}

// ---- Withdrawing terms that leave float32 from a layer that is a unit, before any clock has advanced.

/// Takes a term of the call out of the layer, as if it had been absent, and counts it.
MTADAM_INLINE void withdraw_from_layer(const Tables& tables, const Call& call, std::uint32_t term,
                                       std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  roll_back_norm(tables, term, layer_index);
  state.norms[layer_index].r = NAN;  // the term had no share
  state.norms[layer_index].skipped += 1;
  if (!tables.network) return;
  const Layer& layer = tables.layers[layer_index];
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t tensor = tables.members[layer.member + k];
    if (gradient_of(tables, call, term, tensor) != nullptr) state.squares[tensor] = state.former_squares[tensor];
  }
}

/// n_a of the layer. As long as the anchor's own term leaves float32, with its weight as the scale, the term is
/// withdrawn, and `withdrawn` becomes true. Terms of earlier calls have moved, and stay.
MTADAM_INLINE double anchor_of_layer(const Tables& tables, const Call& call, std::uint32_t layer_index,
                                     bool& withdrawn) {
  for (;;) {
    const AnchorNorm anchor =
        anchor_norm(tables, [&](std::uint32_t term) { return norm_of_layer(tables, term, layer_index); });
    if (!is_called(call, anchor.term)) return anchor.n;
    if (!leaves_float32(tables, tables.terms[anchor.term].norms[layer_index], tables.weights[anchor.term])) {
      return anchor.n;
    }
    withdraw_from_layer(tables, call, anchor.term, layer_index);
    withdrawn = true;
  }
}

/// Step 4 for a term of the call in the layer. A term that leaves float32 is withdrawn; returns whether it was.
MTADAM_INLINE bool scale_in_layer(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t layer_index,
                                  double anchor) {
  if (scale_term(tables, term, tables.terms[term].norms[layer_index], anchor)) return false;
  withdraw_from_layer(tables, call, term, layer_index);
  return true;
}

}  // namespace mtadam
