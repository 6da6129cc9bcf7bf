#pragma once

#include <napi.h>

namespace mtadam::addon {

/// assign(targets: object[], sources: object[]): gives each target the properties of its source. In one go, whereas V8
/// can end a loop of JavaScript after some of the targets. lib/ has checked that they can be set.
void assign(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
