#include "cpu/layers.h"

#include "math/lagged.h"
#include "math/lane_sum.h"
#include "math/network.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

/// The sum over the chunks of a layer or a tensor.
double sum_of_chunks(const double* partial, std::uint64_t slots) {
  if (slots == 0) return 0;
  if (slots == 1) return partial[0];
  LaneSum sum;
  for (std::uint64_t q = 0; q < slots; ++q) sum.add(q, partial[q]);
  return sum.total();
}

/// The norm before the open step from the q of that time, in a layer that the term has reached before or whose clocks
/// have not advanced; `n` where the term had no q.
double former_norm(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer, double n) {
  LaneSum q;
  bool existed = false;
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t index = tables.members[layer.member + k];
    const FormerSquare former = former_square(tables, term, index, gradient_of(tables, call, term, index) != nullptr);
    q.add(index, former.q);
    existed |= former.exists;
  }
  return existed ? std::sqrt(q.total()) : n;
}

/// q of all tensors of a layer in which the term is present. Returns n, which stays if the layer has joined the
/// network's unit. `first_sum`: the sum of squares of a layer of one tensor.
double record_squares(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t layer_index,
                      double first_sum, bool joined) {
  const Term& state = tables.terms[term];
  const Layer& layer = tables.layers[layer_index];
  const bool resting = !joined && rests(tables, state.norms[layer_index].r);
  LaneSum q;
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t index = tables.members[layer.member + k];
    const Tensor& tensor = tables.tensors[index];
    if (gradient_of(tables, call, term, index) != nullptr) {
      const double squares =
          layer.members == 1 ? first_sum : sum_of_chunks(state.partial + tensor.slot, chunks_of(tensor.length));
      record_square(tables, term, index, squares, resting || keeps_average(tables, squares));
    }
    q.add(index, state.squares[index]);
  }
  return joined ? state.norms[layer_index].n : std::sqrt(q.total());
}

/// Takes a term into the open step with the norm before it.
void take_former_norm(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t layer_index) {
  const Term& state = tables.terms[term];
  const Layer& layer = tables.layers[layer_index];
  expect_norm(tables, term, layer_index);
  if (!tables.network) {
    state.lagged_norms[layer_index] = state.norms[layer_index].n;
    return;
  }
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t tensor = tables.members[layer.member + k];
    if (gradient_of(tables, call, term, tensor) != nullptr) state.former_squares[tensor] = state.squares[tensor];
  }
  state.lagged_norms[layer_index] = former_norm(tables, call, term, layer, 0);
}

/// Steps 1 and 2 of a term that is present in a layer. False where the term counts as absent.
bool take_sum(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t layer_index, bool joined,
              std::atomic<bool>& skipped) {
  const Term& state = tables.terms[term];
  const Layer& layer = tables.layers[layer_index];
  const double sum = sum_of_chunks(state.partial + layer.slot, layer.slots);
  if (!take_norm(tables, term, layer_index, sum)) {
    skipped = true;
    if (!skips_elements(tables, call, term, layer_index)) return false;
  }
  if (tables.network) {
    const double n = record_squares(tables, call, term, layer_index, sum, joined);
    if (tables.lagged) state.lagged_norms[layer_index] = former_norm(tables, call, term, layer, n);
    record_norm(tables, term, layer_index, n);
  } else if (tables.lagged) {
    record_lagged_norm(tables, term, layer_index);
  } else {
    record_norm(tables, term, layer_index, next_norm(tables, term, layer_index));
  }
  return true;
}

/// Steps 3 and 4 for one layer that is a unit. Returns whether a term was withdrawn.
bool scale_layer(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const std::uint32_t end = call.first + call.count;
  if (tables.lagged) {
    const double anchor = lagged_anchor_of_layer(tables, layer_index);
    for (std::uint32_t term = call.first; term < end; ++term) scale_lagged_in_layer(tables, term, layer_index, anchor);
    return false;
  }
  bool withdrawn = false;
  const double anchor = anchor_of_layer(tables, call, layer_index, withdrawn);
  for (std::uint32_t term = call.first; term < end; ++term) {
    withdrawn |= scale_in_layer(tables, call, term, layer_index, anchor);
  }
  return withdrawn;
}

/// The clocks of the terms that take part in a layer.
void begin_tensors(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t tensor = tables.members[layer.member + k];
    for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
      if (reaches(tables, call, term, tensor, layer_index)) begin_term(tables, term, tensor, layer_index);
    }
    begin_shared(tables, call, tensor, layer_index);
  }
}

/// Marks the terms that are not finite somewhere in the network's unit.
void mark_spoilers(const Tables& tables, const Call& call) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    bool found = false;
    for (std::uint32_t layer = 0; layer < tables.layer_count && !found; ++layer) {
      found = spoils_network(tables, call, term, layer);
    }
    if (found) mark_withdrawn(tables, term);
  }
}

/// The norm of one term in the network's unit before the open step, once clocks have advanced.
void record_former_norm(const Tables& tables, std::uint32_t term) {
  LaneSum q;
  bool existed = false;
  for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) {
    if (!is_joined(tables, tables.tensors[tensor].layer)) continue;
    const bool moved = takes_part(tables.terms[term].clocks[tensor], *tables.shared.step);
    const FormerSquare former = former_square(tables, term, tensor, moved);
    q.add(tensor, former.q);
    existed |= former.exists;
  }
  record_lagged_network(tables, term, existed, q.total());
}

/// What a term has in the network's unit, added up over its tensors.
struct NetworkSums {
  double q;
  double squares;
  bool anywhere = false;  // takes part in some layer
  bool here = false;      // in some layer of the unit
};

NetworkSums network_sums(const Tables& tables, std::uint32_t term) {
  NetworkSums sums;
  LaneSum q, squares;
  for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) {
    const NetworkPart part = network_part(tables, term, tensor);
    q.add(tensor, part.q);
    squares.add(tensor, part.square);
    sums.anywhere |= part.takes_part;
    sums.here |= part.takes_part && part.joined;
  }
  sums.q = q.total();
  sums.squares = squares.total();
  return sums;
}

/// r and n of one term in the network's unit.
void finish_term(const Tables& tables, const Call& call, std::uint32_t term) {
  NetworkSums sums = network_sums(tables, term);
  const bool called = is_called(call, term);
  if (called && sums.here && rests(tables, sums.squares)) {
    for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) rest_square(tables, term, tensor);
    sums.q = network_sums(tables, term).q;
  }
  record_network(tables, term, sums.q);
  if (called && sums.anywhere) reach_network(tables, term);
  if (called && sums.here) take_network(tables, term, sums.squares);
}

}  // namespace

bool begin_layer(const Tables& tables, const Call& call, std::uint32_t layer_index, std::atomic<bool>& skipped) {
  const Layer& layer = tables.layers[layer_index];
  if (tables.network) join_network(tables, layer_index);
  const bool joined = is_joined(tables, layer_index);
  bool good = true;
  // All norms before the first scale: the anchor may be any term.
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (!present_in_layer(tables, call, term, layer)) continue;
    if (!take_sum(tables, call, term, layer_index, joined, skipped)) {
      good &= tables.lagged || (!joined && tables.non_finite != NonFinite::kSkipStep);
    }
  }
  if (!joined && scale_layer(tables, call, layer_index)) {
    skipped = true;
    good &= tables.non_finite != NonFinite::kSkipStep;
  }
  begin_tensors(tables, call, layer_index);
  return good;
}

bool begin_layer_ahead(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  const std::uint32_t end = call.first + call.count;
  for (std::uint32_t term = call.first; term < end; ++term) {
    if (present_in_layer(tables, call, term, layer) && needs_norm(tables, call, term, layer_index)) return false;
  }
  if (tables.network) join_network(tables, layer_index);
  for (std::uint32_t term = call.first; term < end; ++term) {
    if (present_in_layer(tables, call, term, layer)) take_former_norm(tables, call, term, layer_index);
  }
  if (!is_joined(tables, layer_index)) scale_layer(tables, call, layer_index);
  begin_tensors(tables, call, layer_index);
  return true;
}

void end_layer(const Tables& tables, const Call& call, std::uint32_t layer_index, std::atomic<bool>& skipped) {
  const bool joined = is_joined(tables, layer_index);
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (!present_in_layer(tables, call, term, tables.layers[layer_index])) continue;
    take_sum(tables, call, term, layer_index, joined, skipped);
  }
}

void begin_network_ahead(const Tables& tables, const Call& call) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const NetworkSums sums = network_sums(tables, term);
    record_network(tables, term, sums.q);
    record_former_norm(tables, term);
    if (is_called(call, term) && sums.here) tables.terms[term].network->norm.step = *tables.shared.step;
  }
  const double anchor = lagged_network_anchor(tables);
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    scale_lagged_network(tables, term, anchor);
  }
}

void end_network(const Tables& tables, const Call& call) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) finish_term(tables, call, term);
}

bool finish_network(const Tables& tables, const Call& call, bool good) {
  if (tables.lagged) {  // no term is withdrawn
    end_network(tables, call);
    begin_network_ahead(tables, call);
    return true;
  }
  if (!good) mark_spoilers(tables, call);
  bool scaled = false;
  for (bool left = false;; left = true) {
    if (left || !good) {
      for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) withdraw_from(tables, call, layer, left);
    }
    end_network(tables, call);
    if (scaled) return false;
    bool leaves = false;
    const double anchor = network_anchor(tables, call, leaves);
    if (leaves) continue;
    for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
      leaves |= scale_network(tables, term, anchor);
    }
    if (!leaves) return !left;
    scaled = true;
  }
}

void finish_cosines(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  for (std::uint32_t later = 0; later < call.count; ++later) {
    for (std::uint32_t earlier = 0; earlier <= later; ++earlier) {
      const double dot =
          earlier == later ? 0 : sum_of_chunks(dots_of(tables, earlier, later) + layer.slot, layer.slots);
      cosine_of(tables, earlier, later, layer_index) = gradient_cosine(tables, earlier, later, layer_index, dot);
    }
  }
}

void roll_back(const Tables& tables) {
  for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) roll_back_layer(tables, layer);
  for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) roll_back_tensor(tables, tensor);
  if (!tables.network) return;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) leave_network(tables, term);
}

void show_network(const Tables& tables, const Call& call) {
  if (!tables.network) return;
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) mtadam::show_network(tables, term, layer);
  }
}

}  // namespace mtadam
