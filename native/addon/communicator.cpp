#include "addon/communicator.h"

#include <string>
#include <vector>

#include "addon/arguments.h"

namespace mtadam::addon {

Napi::Function Communicator::define(Napi::Env env) {
  return DefineClass(env, "Communicator",
                     {InstanceAccessor<&Communicator::rank>("rank"), InstanceAccessor<&Communicator::size>("size"),
                      InstanceAccessor<&Communicator::library>("library"),
                      InstanceMethod<&Communicator::agree>("agree"), InstanceMethod<&Communicator::close>("close")});
}

Communicator::Communicator(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Communicator>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  const Napi::Array names = info[0].As<Napi::Array>();
  std::vector<std::string> libraries;
  for (std::uint32_t k = 0; k < names.Length(); ++k) libraries.push_back(names.Get(k).ToString());
  const double timeout = info[1].ToNumber().DoubleValue();
  guarded(info.Env(), [&] { world_ = mpi::open(libraries, timeout); });
}

Napi::Value Communicator::rank(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), world_->rank()); }

Napi::Value Communicator::size(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), world_->size()); }

Napi::Value Communicator::library(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), world_->library());
}

// (call: string)
void Communicator::agree(const Napi::CallbackInfo& info) {
  const std::string call = info[0].ToString();
  guarded(info.Env(), [&] { mtadam::agree(*world_, call, 0, 0); });
}

void Communicator::close(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { world_->close(); });
}

Sharing sharing_of(const Napi::Value& value) {
  Sharing sharing;
  if (!value.IsObject()) return sharing;
  const Napi::Object object = value.As<Napi::Object>();
  sharing.collective = unwrap<Communicator>(object.Get("communicator")).get();
  sharing.state = object.Get("state").ToBoolean();
  if (object.Get("ordered").ToBoolean()) sharing.reduction = Reduction::kOrdered;
  if (object.Get("bfloat16").ToBoolean()) sharing.wire = Wire::kBfloat16;
  return sharing;
}

}  // namespace mtadam::addon
