#include "addon/device.h"

#include "addon/arguments.h"
#include "cpu/cpu_device.h"

namespace mtadam::addon {

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(
      env, "Device",
      {InstanceAccessor<&Device::instruction_set>("instructionSet"), InstanceMethod<&Device::dispose>("dispose")});
}

Device::Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  const unsigned threads = index(info[0]);
  const std::string name = info[1].ToString();
  guarded(info.Env(), [&] {
    auto cpu = std::make_shared<CpuDevice>(threads, name);
    instruction_set_ = cpu->instruction_set();
    device_ = std::move(cpu);
  });
}

std::shared_ptr<mtadam::Device> Device::get() const {
  if (device_ == nullptr) throw coded_error(Env(), "DISPOSED", "The device has been disposed of.");
  return device_;
}

Napi::Value Device::instruction_set(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), instruction_set_);
}

void Device::dispose(const Napi::CallbackInfo&) { device_.reset(); }

Napi::Value describe_cpu(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<InstructionSet> sets = instruction_sets();
  Napi::Array names = Napi::Array::New(env, sets.size());
  for (std::uint32_t k = 0; k < sets.size(); ++k) names.Set(k, sets[k].name);
  Napi::Object description = Napi::Object::New(env);
  description.Set("instructionSets", names);
  return description;
}

}  // namespace mtadam::addon
