#pragma once

#include <atomic>
#include <cstdint>

#include "math/tables.h"

// Steps 1 to 4 and the clocks, once per layer and for the network's unit, for all terms of a call. Each function ends
// before the next begins; a function of a layer may run for all layers in parallel.

namespace mtadam {

// ---- With the sums of squares of all of the call's gradients for the layer

/// Steps 1 to 4 and the clocks of one layer; n and s are left to finish_network() where the layer is part of the
/// network's unit. False where a norm that is not finite is a reason to go back on other layers. `skipped` becomes true
/// where a term is skipped.
bool begin_layer(const Tables& tables, const Call& call, std::uint32_t layer_index, std::atomic<bool>& skipped);

/// n and s of the network's unit, once all layers have begun. `good`: all norms in the unit are finite. Returns whether
/// no term left float32.
bool finish_network(const Tables& tables, const Call& call, bool good);

// ---- Lagged scales, which need no sum before the elements move, but for a layer that a term reaches first

/// Steps 3 and 4 and the clocks of one layer, from the norms before the step; s is left to begin_network_ahead() where
/// the layer is part of the network's unit. False, without any effect, if the layer needs begin_layer() since there is
/// no such norm.
bool begin_layer_ahead(const Tables& tables, const Call& call, std::uint32_t layer_index);

/// Steps 3 and 4 of the network's unit, once all layers have begun.
void begin_network_ahead(const Tables& tables, const Call& call);

/// Steps 1 and 2 of a layer that began ahead, once its sums are known.
void end_layer(const Tables& tables, const Call& call, std::uint32_t layer_index, std::atomic<bool>& skipped);

/// Steps 1 and 2 of the network's unit, once all layers have ended.
void end_network(const Tables& tables, const Call& call);

// ---- After either

/// The cosines between the terms' gradients in one layer, from the dot products of its chunks.
void finish_cosines(const Tables& tables, const Call& call, std::uint32_t layer_index);

/// Rolls the step back everywhere.
void roll_back(const Tables& tables);

/// Shows what the call's terms have in the network's unit in each of its layers.
void show_network(const Tables& tables, const Call& call);

}  // namespace mtadam
