#include "addon/buffer.h"

#include "addon/arguments.h"
#include "addon/device.h"

namespace mtadam::addon {

Napi::Function Buffer::define(Napi::Env env) {
  return DefineClass(env, "Buffer",
                     {InstanceAccessor<&Buffer::pointer>("pointer"), InstanceMethod<&Buffer::upload>("upload"),
                      InstanceMethod<&Buffer::download>("download"), InstanceMethod<&Buffer::fill>("fill"),
                      InstanceMethod<&Buffer::dispose>("dispose")});
}

Buffer::Buffer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Buffer>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  device_ = unwrap<Device>(info[0]).get();
  size_ = static_cast<std::size_t>(info[1].As<Napi::Number>().Int64Value());
  guarded(info.Env(), [&] { memory_ = device_->allocate(size_); });
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(size_));
}

Buffer::~Buffer() { release(); }

void Buffer::release() {
  if (memory_ == nullptr) return;
  memory_.reset();
  device_.reset();
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -static_cast<int64_t>(size_));
}

mtadam::Device& Buffer::device() const {
  if (device_ == nullptr) throw coded_error(Env(), "DISPOSED", "The buffer has been disposed of.");
  return *device_;
}

Napi::Value Buffer::pointer(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(data())));
}

// (array): as many bytes as the array has, from the start.
void Buffer::upload(const Napi::CallbackInfo& info) {
  const std::size_t bytes = info[0].As<Napi::TypedArray>().ByteLength();
  const std::byte* const from = address(info[0], bytes);
  std::byte* const to = address(info.This(), bytes);
  guarded(info.Env(), [&] { device().write(to, from, bytes, nullptr); });
}

void Buffer::download(const Napi::CallbackInfo& info) {
  const std::size_t bytes = info[0].As<Napi::TypedArray>().ByteLength();
  std::byte* const to = address(info[0], bytes);
  const std::byte* const from = address(info.This(), bytes);
  guarded(info.Env(), [&] { device().read(to, from, bytes, nullptr); });
}

// (array of one element): every element becomes that one.
void Buffer::fill(const Napi::CallbackInfo& info) {
  const std::size_t element = info[0].As<Napi::TypedArray>().ByteLength();
  std::uint64_t pattern = 0;
  if (element == 0 || element > sizeof pattern) throw coded_error(info.Env(), "LENGTH", "One element was expected.");
  std::memcpy(&pattern, address(info[0], element), element);
  guarded(info.Env(), [&] { device().fill(memory_->data(), pattern, element, size_, nullptr); });
}

void Buffer::dispose(const Napi::CallbackInfo&) { release(); }

}  // namespace mtadam::addon
