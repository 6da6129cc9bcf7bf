#include "addon/communicator.h"

#include <algorithm>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/device.h"
#include "engine/agreement.h"
#include "mpi/mpi.h"
#include "nccl/nccl.h"

namespace mtadam::addon {
namespace {

std::vector<std::string> strings_of(const Napi::Value& value) {
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (std::uint32_t k = 0; k < array.Length(); ++k) strings.push_back(array.Get(k).ToString());
  return strings;
}

}  // namespace

Napi::Function Communicator::define(Napi::Env env) {
  return DefineClass(env, "Communicator",
                     {InstanceAccessor<&Communicator::rank>("rank"), InstanceAccessor<&Communicator::size>("size"),
                      InstanceAccessor<&Communicator::library>("library"),
                      InstanceMethod<&Communicator::agree>("agree"), InstanceMethod<&Communicator::close>("close")});
}

Communicator::Communicator(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Communicator>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  const std::string kind = info[0].ToString();
  const std::vector<std::string> libraries = strings_of(info[1]);
  const double timeout = info[2].ToNumber().DoubleValue();
  if (kind == "mpi") {
    guarded(info.Env(), [&] { world_ = mpi::open(libraries, timeout); });
  } else {
    nccl::Id id;
    const char* const bytes = elements<char>(info[4], id.size());
    std::copy(bytes, bytes + id.size(), id.begin());
    const nccl::Member member{libraries, id, number(info[5]), number(info[6]), unwrap<Device>(info[3]).get(), timeout};
    guarded(info.Env(), [&] { world_ = nccl::open(member); });
  }
  guarded(info.Env(), [&] { agree_on_version(*world_, MTADAM_VERSION); });
}

Napi::Value nccl_id(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const nccl::Id id = nccl::make_id(strings_of(info[0]));
    Napi::Uint8Array copy = Napi::Uint8Array::New(info.Env(), id.size());
    std::copy(id.begin(), id.end(), copy.Data());
    return copy;
  });
}

Napi::Value Communicator::rank(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), world_->rank()); }

Napi::Value Communicator::size(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), world_->size()); }

Napi::Value Communicator::library(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), world_->library());
}

// (call: string)
void Communicator::agree(const Napi::CallbackInfo& info) {
  const std::string call = info[0].ToString();
  guarded(info.Env(), [&] { mtadam::agree(*world_, {call, 0, 0}); });
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
