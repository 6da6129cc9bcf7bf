#include "addon/assign.h"

namespace mtadam::addon {
namespace {

/// Without those of Object.prototype, to which other code may have added some.
Napi::Array own_names(const Napi::Object& object) {
  napi_value names = nullptr;
  const napi_status status = napi_get_all_property_names(
      object.Env(), object, napi_key_own_only,
      static_cast<napi_key_filter>(napi_key_enumerable | napi_key_skip_symbols), napi_key_numbers_to_strings, &names);
  NAPI_THROW_IF_FAILED(object.Env(), status, Napi::Array(object.Env(), nullptr));
  return {object.Env(), names};
}

}  // namespace

void assign(const Napi::CallbackInfo& info) {
  const Napi::Array targets = info[0].As<Napi::Array>();
  const Napi::Array sources = info[1].As<Napi::Array>();
  for (std::uint32_t k = 0; k < targets.Length(); ++k) {
    Napi::Object target = targets.Get(k).As<Napi::Object>();
    const Napi::Object source = sources.Get(k).As<Napi::Object>();
    const Napi::Array names = own_names(source);
    for (std::uint32_t n = 0; n < names.Length(); ++n) target.Set(names.Get(n), source.Get(names.Get(n)));
  }
}

}  // namespace mtadam::addon
