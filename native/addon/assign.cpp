#include "addon/assign.h"

namespace mtadam::addon {

void assign(const Napi::CallbackInfo& info) {
  const Napi::Array targets = info[0].As<Napi::Array>();
  const Napi::Array sources = info[1].As<Napi::Array>();
  for (std::uint32_t k = 0; k < targets.Length(); ++k) {
    Napi::Object target = targets.Get(k).As<Napi::Object>();
    const Napi::Object source = sources.Get(k).As<Napi::Object>();
    const Napi::Array names = source.GetPropertyNames();
    for (std::uint32_t n = 0; n < names.Length(); ++n) target.Set(names.Get(n), source.Get(names.Get(n)));
  }
}

}  // namespace mtadam::addon
