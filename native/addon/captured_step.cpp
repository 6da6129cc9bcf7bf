#include "addon/captured_step.h"

#include "addon/arguments.h"
#include "addon/optimizer.h"

namespace mtadam::addon {

Napi::Function CapturedStep::define(Napi::Env env) {
  return DefineClass(
      env, "CapturedStep",
      {InstanceMethod<&CapturedStep::replay>("replay"), InstanceMethod<&CapturedStep::dispose>("dispose")});
}

CapturedStep::CapturedStep(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CapturedStep>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  optimizer_ = &unwrap<Optimizer>(info[0]);
  owner_ = Napi::Persistent(info[0].As<Napi::Object>());
  const AddressTable& gradients = optimizer_->table(info[1]);
  mtadam::Optimizer& engine = optimizer_->get();
  // The default stream is checked at each replay.
  const Stream stream = info[2].IsBigInt() ? stream_of(info[2], engine.device()) : nullptr;
  guarded(info.Env(), [&] { step_ = engine.capture(gradients, stream); });
}

// (values)
void CapturedStep::replay(const Napi::CallbackInfo& info) {
  if (step_ == nullptr) throw coded_error(info.Env(), "DISPOSED", "The captured step has been disposed of.");
  optimizer_->replay(*step_, info[0]);
}

void CapturedStep::dispose(const Napi::CallbackInfo&) { step_.reset(); }

}  // namespace mtadam::addon
