#pragma once

#include <napi.h>

namespace mtadam::addon {

/// assign(targets: object[], sources: object[]): copies the properties of each source to its target. V8 could end a
/// loop in JavaScript after some of the targets, but not this function. lib/ has checked that the properties can be
/// set.
void assign(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
