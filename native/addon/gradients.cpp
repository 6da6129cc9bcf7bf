#include "addon/gradients.h"

#include "addon/arguments.h"
#include "addon/optimizer.h"

namespace mtadam::addon {

Napi::Function Gradients::define(Napi::Env env) {
  return DefineClass(env, "Gradients", {InstanceMethod<&Gradients::set>("set")});
}

Gradients::Gradients(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Gradients>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  optimizer_ = &unwrap<Optimizer>(info[0]);
  owner_ = Napi::Persistent(info[0].As<Napi::Object>());
  guarded(info.Env(), [&] { table_ = optimizer_->make_table(); });
}

// (term, parameter, source | null): sets an address; null is absent. Returns −1, or the parameter that the gradient
// overlaps; then the address is not set.
Napi::Value Gradients::set(const Napi::CallbackInfo& info) {
  const mtadam::Optimizer& engine = optimizer_->get();
  const std::uint32_t term = index(info[0], table_->rows());
  const std::uint32_t parameter = index(info[1], engine.layout().tensor_count());
  if (info[2].IsNull()) {
    table_->set(term, parameter, nullptr);
    return Napi::Number::New(info.Env(), -1);
  }
  const Tensor& tensor = engine.layout().tensors()[parameter];
  const std::size_t bytes = tensor.length * element_bytes(tensor.gradient);
  std::byte* const begin = address(info[2], bytes);
  if (info[2].IsBigInt()) guarded(info.Env(), [&] { optimizer_->check_gradient(begin, bytes); });
  const std::int64_t overlapped = optimizer_->ranges().overlap(begin, begin + bytes);
  if (overlapped < 0) table_->set(term, parameter, reinterpret_cast<float*>(begin));
  return Napi::Number::New(info.Env(), static_cast<double>(overlapped));
}

}  // namespace mtadam::addon
