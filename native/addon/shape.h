#pragma once

#include <napi.h>

#include <vector>

#include "engine/layout.h"
#include "engine/optimizer.h"

namespace mtadam::addon {

/// An optimizer's parameters and the options that cannot change later.
struct Shape {
  std::vector<ParameterShape> parameters;
  OptimizerOptions options;
  StateType state_type;
};

/// Reads { lengths: Float64Array, layers: Uint32Array, groups: Uint32Array, groupCount, terms, summed, oneV, amsgrad,
/// mean, nonFinite, cosines, network, lagged, rest, anchor, balance, initialNorm, stateDtype, seed, parameterNames,
/// termNames, rounding, dtypes, gradientDtypes }. Throws (OPTION) where an index is out of range.
Shape shape_of(const Napi::Value& value);

/// Of a `stateDtype`.
StateType state_type_of(const Napi::Value& value);

/// stateBytes(shape, sharing): the bytes that an optimizer of this shape allocates on its device, for this rank.
Napi::Value state_bytes(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
