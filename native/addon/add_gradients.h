#pragma once

#include <napi.h>

namespace mtadam::addon {

class Optimizer;

/// (targets, sources: (TypedArray | Buffer | bigint)[], parameters: Uint32Array, stream: bigint | null): target[k] +=
/// source[k] for each pair, of that parameter. Checks all pairs before it adds any. Throws (HOST_POINTER,
/// INVALID_POINTER) with the pair's `index` and, where one address alone is wrong, its `role`: "target" or "source".
void add_gradients(Optimizer& optimizer, const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
