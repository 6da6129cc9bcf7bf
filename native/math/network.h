#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "math/portable.h"
#include "math/scalars.h"
#include "math/tables.h"

// The network as one unit (docs/algorithm.md, "The network as one unit"): the layers of one tensor that several terms
// reach share n and s. Once a layer's norms are known, q, clocks and the other values of its tensors are computed; once
// all norms are known, n and s of the unit. If a term is not finite somewhere in the unit or leaves float32, which is
// rare, it has already taken part in layers of the unit and is withdrawn from them.

namespace mtadam {

/// How many terms have reached the tensor before the open step; 2 stands for 2 or more.
MTADAM_INLINE std::uint32_t terms_before(const Tables& tables, std::uint32_t tensor_index) {
  std::uint32_t count = 0;
  for (std::uint32_t term = 0; term < tables.term_count && count < 2; ++term) {
    const Clock& clock = tables.terms[term].clocks[tensor_index];
    count += clock.t > (takes_part(clock, *tables.shared.step) ? 1 : 0);
  }
  return count;
}

/// Whether no term has reached any tensor before the open step.
MTADAM_INLINE bool nothing_reached(const Tables& tables) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const std::uint64_t reached = tables.terms[term].network->reached;
    if (reached != 0 && reached != *tables.shared.step) return false;
  }
  return true;
}

/// Decides whether a layer is part of the network's unit in the open step. All calls of a step decide the same.
MTADAM_INLINE void join_network(const Tables& tables, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  const bool joins =
      layer.members == 1 && (terms_before(tables, tables.members[layer.member]) == 2 || nothing_reached(tables));
  tables.shared.joined[layer_index] = joins ? *tables.shared.step : 0;
}

/// q of a term that takes part in a tensor's step (step 2), from the sum of its squares. The clock has not advanced
/// yet, or, after begin_layer_ahead(), the term has reached the tensor before. `resting`: whether an existing q stays
/// unchanged.
MTADAM_INLINE void record_square(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index,
                                 double sum_of_squares, bool resting) {
  const Term& state = tables.terms[term];
  double& q = state.squares[tensor_index];
  state.former_squares[tensor_index] = q;
  const bool occurred = state.clocks[tensor_index].t > 0;
  if (occurred && resting) return;
  const double r = std::sqrt(sum_of_squares) / *tables.gradient_scale;
  const double beta3 = tables.groups[tables.tensors[tensor_index].group].beta3;
  q = moving_average(has_started(tables, occurred, q), q, r * r, beta3, tables.initial_norm * tables.initial_norm);
}

/// The contribution of one tensor to a term's part in the unit.
struct NetworkPart {
  double q = 0;             // all that the term ever had in the tensor
  double square = 0;        // r² of the open step
  bool takes_part = false;  // in the tensor's layer
  bool joined = false;
};

MTADAM_INLINE NetworkPart network_part(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index) {
  const Term& state = tables.terms[term];
  const std::uint32_t layer = tables.tensors[tensor_index].layer;
  const NormState& norm = state.norms[layer];
  const double q = state.squares[tensor_index];
  const double r = norm.r;
  NetworkPart part;
  part.joined = is_joined(tables, layer);
  part.takes_part = norm.step == *tables.shared.step;
  part.q = part.joined ? q : 0;
  part.square = part.joined && part.takes_part ? r * r : 0;
  return part;
}

/// Restores the q of a tensor to its value before the open step.
MTADAM_INLINE void rest_square(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index) {
  const Term& state = tables.terms[term];
  const NetworkPart part = network_part(tables, term, tensor_index);
  if (part.joined && part.takes_part && state.clocks[tensor_index].t > 1) {
    state.squares[tensor_index] = state.former_squares[tensor_index];
  }
}

/// Stores n of a term in the unit.
MTADAM_INLINE void record_network(const Tables& tables, std::uint32_t term, double sum_of_q) {
  tables.terms[term].network->norm.n = std::sqrt(sum_of_q);
}

/// Stores r of a term of the call that takes part in the unit.
MTADAM_INLINE void take_network(const Tables& tables, std::uint32_t term, double sum_of_squares) {
  NormState& norm = tables.terms[term].network->norm;
  norm.r = std::sqrt(sum_of_squares);
  norm.step = *tables.shared.step;
}

/// Marks that a term of the call takes part somewhere in the network.
MTADAM_INLINE void reach_network(const Tables& tables, std::uint32_t term) {
  NetworkUnit& unit = *tables.terms[term].network;
  if (unit.reached == 0) unit.reached = *tables.shared.step;
}

/// Undoes the two functions above.
MTADAM_INLINE void leave_network(const Tables& tables, std::uint32_t term) {
  NetworkUnit& unit = *tables.terms[term].network;
  unit.norm.step = 0;
  if (unit.reached == *tables.shared.step) unit.reached = 0;
}

/// Marks a term of the call that must be withdrawn from the unit.
MTADAM_INLINE void mark_withdrawn(const Tables& tables, std::uint32_t term) {
  tables.terms[term].network->withdrawn = *tables.shared.step;
  leave_network(tables, term);
}

/// n_a of the unit. If the anchor's own term leaves float32, with its weight as the scale, marks that term instead and
/// sets `leaves`. Terms of earlier calls have moved, and stay.
MTADAM_INLINE double network_anchor(const Tables& tables, const Call& call, bool& leaves) {
  const AnchorNorm anchor = anchor_norm(tables, [&](std::uint32_t term) { return tables.terms[term].network->norm.n; });
  if (!is_called(call, anchor.term)) return anchor.n;
  leaves = leaves_float32(tables, tables.terms[anchor.term].network->norm, tables.weights[anchor.term]);
  if (leaves) mark_withdrawn(tables, anchor.term);
  return anchor.n;
}

/// Computes s and f of a term, if it takes part in the unit. Marks a term that leaves float32; returns whether it does.
MTADAM_INLINE bool scale_network(const Tables& tables, std::uint32_t term, double anchor) {
  NetworkUnit& unit = *tables.terms[term].network;
  const bool leaves = !scale_term(tables, term, unit.norm, anchor);
  unit.f = static_cast<float>(unit.norm.s / *tables.gradient_scale);
  if (leaves) mark_withdrawn(tables, term);
  return leaves;
}

/// Whether a term of the call is not finite in a layer of the unit.
MTADAM_INLINE bool spoils_network(const Tables& tables, const Call& call, std::uint32_t term,
                                  std::uint32_t layer_index) {
  return is_joined(tables, layer_index) && present_in_layer(tables, call, term, tables.layers[layer_index]) &&
         !std::isfinite(tables.terms[term].norms[layer_index].r);
}

/// Takes the marked terms of the call out of a layer of the unit, as if they had been absent. `counts`: whether the
/// layer counts that. It already has where the term is not finite in the layer itself.
MTADAM_INLINE void withdraw_from(const Tables& tables, const Call& call, std::uint32_t layer_index, bool counts) {
  if (!is_joined(tables, layer_index)) return;
  const std::uint64_t step = *tables.shared.step;
  const std::uint32_t tensor = tables.members[tables.layers[layer_index].member];
  const Shared& shared = tables.shared;
  // The divisor and the clock T are computed again without the withdrawn terms.
  if (shared.divisors != nullptr) shared.divisors[tensor] = shared.former_divisors[tensor];
  if (tables.summed && is_called(call, shared.opener[tensor])) roll_back_shared(tables, tensor);
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (tables.terms[term].network->withdrawn != step || !reaches(tables, call, term, tensor, layer_index)) continue;
    roll_back_norm(tables, term, layer_index);
    roll_back_term(tables, term, tensor);
    NormState& norm = tables.terms[term].norms[layer_index];
    // As in the layer that spoiled the unit, r = NaN marks that the term had no share.
    norm.r = NAN;
    norm.skipped += counts ? 1 : 0;
  }
  begin_shared(tables, call, tensor, layer_index);
}

/// The factor of a term's gradient in a tensor.
MTADAM_INLINE float factor_of(const Tables& tables, const Term& state, const Coefficients& coefficients,
                              std::uint32_t layer_index) {
  return is_joined(tables, layer_index) ? coefficients.f * state.network->f : coefficients.f;
}

/// Copies a term's n, r and s of the unit to one of the unit's layers, even if the term is absent in that layer.
MTADAM_INLINE void show_network(const Tables& tables, std::uint32_t term, std::uint32_t layer_index) {
  if (!is_joined(tables, layer_index)) return;
  const NormState& unit = tables.terms[term].network->norm;
  if (unit.step != *tables.shared.step) return;
  NormState& norm = tables.terms[term].norms[layer_index];
  // n, r and s as bytes: the update's kernels, which call this, must not need double precision.
  static_assert(offsetof(NormState, n) == 0 && offsetof(NormState, step) == 3 * sizeof(double));
  std::memcpy(&norm, &unit, offsetof(NormState, step));
  if (norm.occurred == 0) norm.occurred = kShown;
}

}  // namespace mtadam
