#pragma once

#include <napi.h>

namespace mtadam::addon {

/// Everything that the addon gives to one Node environment. Nothing is shared between environments: all state hangs on
/// the objects that these make.
void define_exports(Napi::Env env, Napi::Object exports);

}  // namespace mtadam::addon
