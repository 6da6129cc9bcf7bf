#include "addon/device.h"

#include "addon/arguments.h"
#include "cpu/cpu_device.h"

namespace mtadam::addon {

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(env, "Device",
                     {InstanceAccessor<&Device::instruction_set>("instructionSet"), InstanceMethod<&Device::add>("add"),
                      InstanceMethod<&Device::dispose>("dispose")});
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

// (target, source, count): target += source.
void Device::add(const Napi::CallbackInfo& info) {
  const std::size_t count = static_cast<std::size_t>(info[2].As<Napi::Number>().Int64Value());
  float* const target = reinterpret_cast<float*>(address(info[0], count * sizeof(float)));
  const float* const source = reinterpret_cast<const float*>(address(info[1], count * sizeof(float)));
  get()->add(target, source, count, nullptr);
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
