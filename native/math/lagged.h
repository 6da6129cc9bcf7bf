#pragma once

#include <cmath>

#include "math/network.h"
#include "math/portable.h"
#include "math/scalars.h"
#include "math/tables.h"

// Lagged scales (docs/algorithm.md, "Lagged scales"): the scales of a step are computed from the norms as they were
// before the step, so that no element has to wait for its own norm. Only a norm that did not exist before the step is
// that of the step itself.

namespace mtadam {

/// Whether the call's gradients of a term for a layer include one for a tensor that the term has not reached yet. To be
/// called before the clocks advance; false after begin_layer_ahead(), which refuses such layers.
MTADAM_INLINE bool reaches_first(const Tables& tables, const Call& call, std::uint32_t term,
                                 std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t tensor = tables.members[layer.member + k];
    if (gradient_of(tables, call, term, tensor) != nullptr && tables.terms[term].clocks[tensor].t == 0) return true;
  }
  return false;
}

/// Whether the scales of a call in a layer wait for the norm of a term, since there is none before the step.
MTADAM_INLINE bool needs_norm(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t layer_index) {
  if (!tables.network && tables.terms[term].norms[layer_index].occurred == 0) return true;
  return reaches_first(tables, call, term, layer_index);
}

/// Whether a term takes part in a layer in which its r is not finite.
MTADAM_INLINE bool skips_elements(const Tables& tables, const Call& call, std::uint32_t term,
                                  std::uint32_t layer_index) {
  return skips_elements(tables.non_finite) && !reaches_first(tables, call, term, layer_index);
}

/// Whether q or n stays as it is because r, or the sum of squares that it comes from, is not finite.
MTADAM_INLINE bool keeps_average(const Tables& tables, double value) {
  return skips_elements(tables.non_finite) && !std::isfinite(value);
}

/// record_norm() of a layer that is a unit, from its r.
MTADAM_INLINE void record_lagged_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  const NormState& norm = state.norms[layer_index];
  const double n = keeps_average(tables, norm.r) ? norm.n : next_norm(tables, term, layer_index);
  state.lagged_norms[layer_index] = norm.occurred != 0 ? norm.n : n;
  record_norm(tables, term, layer_index, n);
}

/// Takes a term into the open step of a layer. Its steps 1 and 2 follow.
MTADAM_INLINE void expect_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  NormState& norm = tables.terms[term].norms[layer_index];
  norm.step = *tables.shared.step;
  norm.occurred = kOccurred;
}

/// The contribution of one tensor to the norm of a term in a unit before the open step.
struct FormerSquare {
  double q = 0;
  bool exists = false;
};

/// `moved`: whether the term takes part in the tensor's step.
MTADAM_INLINE FormerSquare former_square(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index,
                                         bool moved) {
  const Term& state = tables.terms[term];
  const Clock& clock = state.clocks[tensor_index];
  FormerSquare former;
  former.q = moved ? state.former_squares[tensor_index] : state.squares[tensor_index];
  former.exists = clock.t > (takes_part(clock, *tables.shared.step) ? 1 : 0);
  return former;
}

/// The norm that the scales in the network's unit are computed from, after record_network(). `former`: the sum over the
/// unit before the open step, if the term existed in it.
MTADAM_INLINE void record_lagged_network(const Tables& tables, std::uint32_t term, bool existed, double former) {
  NetworkUnit& unit = *tables.terms[term].network;
  unit.lagged_norm = existed ? std::sqrt(former) : unit.norm.n;
}

/// The norm that the scales in a layer are computed from; 0 where the term never occurred.
MTADAM_INLINE double lagged_norm_of_layer(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  if (state.norms[layer_index].step == *tables.shared.step) return state.lagged_norms[layer_index];
  return norm_of_layer(tables, term, layer_index);
}

/// n_a of a layer that is a unit.
MTADAM_INLINE double lagged_anchor_of_layer(const Tables& tables, std::uint32_t layer_index) {
  return anchor_norm(tables, [&](std::uint32_t term) { return lagged_norm_of_layer(tables, term, layer_index); }).n;
}

/// n_a of the network's unit.
MTADAM_INLINE double lagged_network_anchor(const Tables& tables) {
  return anchor_norm(tables, [&](std::uint32_t term) { return tables.terms[term].network->lagged_norm; }).n;
}

/// scale_term() with the norm `lagged` in place of n.
MTADAM_INLINE void scale_lagged(const Tables& tables, std::uint32_t term, NormState& norm, double lagged,
                                double anchor) {
  if (norm.step != *tables.shared.step) return;
  norm.s = balancing_scale(tables.weights[term], anchor, lagged, tables.balance);
}

/// scale_in_layer() with the layer's lagged norm in place of n. No term is withdrawn.
MTADAM_INLINE void scale_lagged_in_layer(const Tables& tables, std::uint32_t term, std::uint32_t layer_index,
                                         double anchor) {
  const Term& state = tables.terms[term];
  scale_lagged(tables, term, state.norms[layer_index], state.lagged_norms[layer_index], anchor);
}

/// scale_network() with the unit's lagged norm in place of n.
MTADAM_INLINE void scale_lagged_network(const Tables& tables, std::uint32_t term, double anchor) {
  NetworkUnit& unit = *tables.terms[term].network;
  scale_lagged(tables, term, unit.norm, unit.lagged_norm, anchor);
  unit.f = static_cast<float>(unit.norm.s / *tables.gradient_scale);
}

// ---- What begin_layer would compute for a layer that is a unit, while the state is as before the call: many read it,
// and nobody writes until all have.

/// Whether the scales in a layer wait for the norm of this pair of term and tensor, if the call has a gradient for it.
/// needs_norm() is the same for all tensors of a layer.
MTADAM_INLINE bool pair_waits(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t tensor,
                              std::uint32_t layer_index) {
  if (gradient_of(tables, call, term, tensor) == nullptr) return false;
  const Term& state = tables.terms[term];
  return (!tables.network && state.norms[layer_index].occurred == 0) || state.clocks[tensor].t == 0;
}

/// f, c and b of a term of the call that takes part in a tensor's step. `anchor`: lagged_anchor_of_layer().
MTADAM_INLINE Coefficients coefficients_ahead(const Tables& tables, std::uint32_t term, std::uint32_t tensor,
                                              std::uint32_t layer_index, double anchor) {
  const Group& group = tables.groups[tables.tensors[tensor].group];
  const double n = lagged_norm_of_layer(tables, term, layer_index);
  Coefficients ahead;
  ahead.f = gradient_factor(tables, group, balancing_scale(tables.weights[term], anchor, n, tables.balance));
  Clock clock = tables.terms[term].clocks[tensor];
  advance_clock(clock, ahead, group, *tables.shared.step);
  return ahead;
}

/// c and b of the clock T of a tensor in which a term takes part.
MTADAM_INLINE Coefficients shared_coefficients_ahead(const Tables& tables, std::uint32_t tensor) {
  Coefficients ahead = tables.shared.coefficients[tensor];
  Clock clock = tables.shared.clocks[tensor];
  if (takes_part(clock, *tables.shared.step)) return ahead;
  advance_clock(clock, ahead, tables.groups[tables.tensors[tensor].group], *tables.shared.step);
  return ahead;
}

/// W of a tensor after the terms of the call.
MTADAM_INLINE float divisor_ahead(const Tables& tables, const Call& call, std::uint32_t tensor) {
  StepDivisor divisor = tables.shared.divisors[tensor];
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (gradient_of(tables, call, term, tensor) == nullptr) continue;
    add_weight(divisor, tables.weights[term], *tables.shared.step);
  }
  return divisor.w;
}

}  // namespace mtadam
