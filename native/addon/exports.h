#pragma once

#include <napi.h>

namespace mtadam::addon {

/// Sets everything that the addon exports to a Node environment. Environments share no state: it belongs to the objects
/// that JavaScript creates.
void define_exports(Napi::Env env, Napi::Object exports);

}  // namespace mtadam::addon
