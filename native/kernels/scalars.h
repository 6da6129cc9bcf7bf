#pragma once

#include <cmath>

#include "kernels/layout.h"
#include "kernels/portable.h"

// The arithmetic of one (term, layer) and of one (term, tensor): docs/algorithm.md, steps 1 to 4, the clocks of step 6,
// and "Scalars". In double, once per step; results for the elements are rounded to float32 once.

namespace mtadam {

/// The gradient of a term for a tensor in this call; null = absent.
MTADAM_INLINE const float* gradient_of(const Tables& tables, const Call& call, std::uint32_t term,
                                       std::uint32_t tensor) {
  return call.gradients[static_cast<std::uint64_t>(term - call.first) * tables.tensor_count + tensor];
}

/// Whether the term takes part in the open step for this tensor. True only after its norm was finished.
MTADAM_INLINE bool takes_part(const Clock& clock, std::uint64_t step) { return clock.step == step; }

/// Whether the call brings a gradient of the term for any tensor of the layer.
MTADAM_INLINE bool present_in_layer(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer) {
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    if (gradient_of(tables, call, term, tables.members[layer.member + k]) != nullptr) return true;
  }
  return false;
}

/// n, step 2. `initial` is c of `initialNorm: c`, or 0 for "first".
MTADAM_INLINE double moving_norm(const Balance& balance, double r, double beta3, double initial) {
  if (balance.occurred == 0 && initial == 0) return r;
  const double n = balance.occurred == 0 ? initial : balance.n;
  return beta3 * n + (1 - beta3) * r;
}

/// Steps 1 and 2 for one term present in one layer, from the sum of its squares. A norm that is not finite
/// changes nothing but its count: the term then counts as absent in this layer.
MTADAM_INLINE void record_norm(const Tables& tables, std::uint32_t term, std::uint32_t layer_index,
                               double sum_of_squares) {
  Balance& balance = tables.terms[term].balance[layer_index];
  balance.r = std::sqrt(sum_of_squares) / *tables.gradient_scale;
  if (!std::isfinite(balance.r)) {
    balance.skipped += 1;
    return;
  }
  // One β₃ per layer: groups that disagree inside a layer are refused before a step gets here.
  const Tensor& any = tables.tensors[tables.members[tables.layers[layer_index].member]];
  balance.n = moving_norm(balance, balance.r, tables.groups[any.group].beta3, tables.initial_norm);
  balance.step = *tables.shared.step;
  balance.occurred = 1;
}

/// n_a, step 3: the norm of the first term, in order, that has occurred in the layer and is above the floor; 0
/// where there is none (then no term is above the floor, and step 4 needs no anchor).
MTADAM_INLINE double anchor_norm(const Tables& tables, std::uint32_t layer_index) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const Balance& balance = tables.terms[term].balance[layer_index];
    if (balance.occurred != 0 && balance.n > kNormFloor) return balance.n;
  }
  return 0;
}

/// s, step 4.
MTADAM_INLINE double balancing_scale(double weight, double anchor, double n) {
  if (weight == 0) return 0;
  return n > kNormFloor ? weight * (anchor / n) : 1;
}

/// t, P₁ and P₂ after one more step (step 6), and c and b, which follow from them.
MTADAM_INLINE void advance_clock(Clock& clock, Coefficients& out, const Group& group, std::uint64_t step) {
  clock.t += 1;
  clock.p1 *= group.beta1;
  clock.p2 *= group.beta2;
  clock.step = step;
  out.c = static_cast<float>(group.lr / (1 - clock.p1));
  out.b = static_cast<float>(std::sqrt(1 - clock.p2));
}

/// Step 4 for the terms of the call that take part in a layer. All their norms are recorded: the anchor may be any.
MTADAM_INLINE void scale_layer(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const double anchor = anchor_norm(tables, layer_index);
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    Balance& balance = tables.terms[term].balance[layer_index];
    if (balance.step != *tables.shared.step) continue;
    balance.s = balancing_scale(tables.weights[term], anchor, balance.n);
  }
}

/// f, c and b of one term that takes part in a tensor's step, and the tensor's own clock T where first moments are
/// summed.
MTADAM_INLINE void begin_term(const Tables& tables, std::uint32_t term, std::uint32_t tensor_index, double s) {
  const Term& state = tables.terms[term];
  const Group& group = tables.groups[tables.tensors[tensor_index].group];
  const std::uint64_t step = *tables.shared.step;
  Coefficients& out = state.coefficients[tensor_index];
  out.f = static_cast<float>(group.sign * s / *tables.gradient_scale);
  advance_clock(state.clocks[tensor_index], out, group, step);
  if (!tables.summed) return;
  Clock& shared = tables.shared.clocks[tensor_index];
  if (takes_part(shared, step)) return;
  advance_clock(shared, tables.shared.coefficients[tensor_index], group, step);
  tables.shared.opener[tensor_index] = term;
}

/// begin_term for the terms of the call that reach a tensor, in order. Its layer is scaled.
MTADAM_INLINE void begin_tensor(const Tables& tables, const Call& call, std::uint32_t layer_index,
                                std::uint32_t tensor_index) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    const Balance& balance = tables.terms[term].balance[layer_index];
    const bool takes_part = balance.step == *tables.shared.step;
    if (takes_part && gradient_of(tables, call, term, tensor_index) != nullptr) {
      begin_term(tables, term, tensor_index, balance.s);
    }
  }
}

}  // namespace mtadam
