#pragma once

#include <napi.h>

#include "engine/optimizer.h"

// The methods of Optimizer that checkpoints use: they copy an engine's state into JavaScript's arrays, and back.

namespace mtadam::addon {

/// (term, n: Float64Array, occurred: Uint8Array, skipped: BigInt64Array): a value per layer.
void read_norms(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void restore_norms(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (term, q: Float64Array): a value per parameter. Throw (STATE) unless the network is one unit.
void read_squares(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void restore_squares(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (term | null, t: BigInt64Array, p1: Float64Array, p2: Float64Array): a value per parameter; null is the clock T.
void read_clocks(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void restore_clocks(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
/// (parameter): its summed first moment and their clock begin again. lib/ asks only where first moments are summed.
void restart_sum(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (start: { plane: "m" | "v" | "x", term, parameter, first }, values: Float32Array): as many elements as there are
/// values. lib/ asks only for planes that the form has. Throws (LENGTH) where the range leaves the parameter;
/// write_plane() also where it would round a part of a block.
void read_plane(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void write_plane(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (parameter, to: Float64Array of two): the first and the end of the elements of its moments that this rank has.
void own_range(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
/// As read_plane(), read_codes() and read_exponents(), of a range of these as they are stored. Throw (LENGTH) where the
/// range leaves them.
void read_own_plane(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void read_own_codes(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void read_own_exponents(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (start, codes: Uint16Array | Uint8Array): of a parameter whose moments are codes, else throw (STATE).
void read_codes(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void write_codes(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (start, exponents: Uint8Array): the same of 8-bit codes; `first` counts blocks.
void read_exponents(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void write_exponents(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// (parameter, first, values: Float32Array): a narrow parameter together with its master; writing changes the master
/// alone. reset_master() is (parameter): as if there had been none. Throw (STATE) where the parameter has none,
/// (LENGTH) where the range leaves it.
void read_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void read_own_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void write_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);
void reset_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info);

/// decodeState(stateDtype, plane, codes, exponents, to: Float32Array): what codes stand for, from the first of a block
/// on.
void decode_state(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
