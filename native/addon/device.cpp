#include "addon/device.h"

#include "addon/arguments.h"
#include "cpu/cpu_device.h"
#include "cuda/cuda.h"

namespace mtadam::addon {
namespace {

std::shared_ptr<mtadam::Device> open(const Napi::CallbackInfo& info) {
  const std::string kind = info[0].ToString();
  if (kind == "cuda") return cuda::open(static_cast<int>(number(info[1])));
  return std::make_shared<CpuDevice>(number(info[1]), info[2].ToString());
}

Napi::Array strings(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (std::uint32_t k = 0; k < values.size(); ++k) array.Set(k, values[k]);
  return array;
}

}  // namespace

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(env, "Device",
                     {InstanceAccessor<&Device::name>("name"), InstanceMethod<&Device::dispose>("dispose")});
}

Device::Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  guarded(info.Env(), [&] { device_ = open(info); });
}

std::shared_ptr<mtadam::Device> Device::get() const {
  if (device_ == nullptr) throw coded_error(Env(), "DISPOSED", "The device has been disposed of.");
  return device_;
}

Napi::Value Device::name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), get()->name()); }

void Device::dispose(const Napi::CallbackInfo&) { device_.reset(); }

Napi::Value describe_cpu(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::vector<std::string> names;
  for (const InstructionSet& set : instruction_sets()) names.emplace_back(set.name);
  Napi::Object description = Napi::Object::New(env);
  description.Set("instructionSets", strings(env, names));
  return description;
}

Napi::Value describe_cuda(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const cuda::Description found = cuda::describe();
  Napi::Array devices = Napi::Array::New(env, found.devices.size());
  for (std::uint32_t k = 0; k < found.devices.size(); ++k) {
    Napi::Object device = Napi::Object::New(env);
    device.Set("name", found.devices[k].name);
    device.Set("computeCapability", found.devices[k].compute_capability);
    device.Set("reason", found.devices[k].reason);
    devices.Set(k, device);
  }
  Napi::Object description = Napi::Object::New(env);
  description.Set("driver", found.driver);
  description.Set("runtime", found.runtime);
  description.Set("reason", found.reason);
  description.Set("architectures", strings(env, found.architectures));
  description.Set("devices", devices);
  return description;
}

Napi::Value cuda_owner(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&]() -> Napi::Value { return Napi::Number::New(info.Env(), cuda::owner_of(address(info[0], 1))); });
}

}  // namespace mtadam::addon
