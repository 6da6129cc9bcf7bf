#pragma once

#include <napi.h>

#include <memory>

#include "engine/optimizer.h"

namespace mtadam::addon {

/// (values: Float64Array, cosines: Float32Array | null): fills `values` with n, r, s and the counts of skipped norms,
/// each terms × layers, and `cosines`, terms × terms × layers. n and s are NaN where a pair has not occurred; cosines
/// are NaN where there are none. Returns a promise, or undefined where the arrays are complete already.
Napi::Value watch_norms(mtadam::Optimizer& engine, std::shared_ptr<mtadam::Device> device,
                        const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
