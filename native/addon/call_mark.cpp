#include "addon/call_mark.h"

namespace mtadam::addon {

Napi::Function CallMark::define(Napi::Env env) {
  return DefineClass(env, "CallMark",
                     {InstanceMethod<&CallMark::run>("run"), InstanceAccessor<&CallMark::is_set>("isSet")});
}

// run(function): returns its result or throws its exception. Does not use Napi::Function::Call, which makes a
// Napi::Error from the exception: when V8 ends JavaScript, there is no exception.
Napi::Value CallMark::run(const Napi::CallbackInfo& info) {
  napi_value result = nullptr;
  running_ += 1;
  napi_call_function(info.Env(), info.Env().Undefined(), info[0], 0, nullptr, &result);
  running_ -= 1;
  return {info.Env(), result};
}

Napi::Value CallMark::is_set(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), running_ > 0); }

}  // namespace mtadam::addon
