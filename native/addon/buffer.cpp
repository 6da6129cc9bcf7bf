#include "addon/buffer.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/device.h"
#include "addon/promise.h"
#include "cuda/cuda.h"

namespace mtadam::addon {
namespace {

/// A part of other memory, which lives as long.
class Part final : public Memory {
 public:
  Part(std::shared_ptr<Memory> whole, std::size_t offset, std::size_t size)
      : Memory(whole->data() + offset, size), whole_(std::move(whole)) {}

  void lend() override { whole_->lend(); }

 private:
  std::shared_ptr<Memory> whole_;
};

}  // namespace

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
  guarded(info.Env(), [&] { memory_ = memory_of(info); });
  if (info[2].IsUndefined()) own_bytes_ = static_cast<std::int64_t>(size_);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), own_bytes_);
}

std::shared_ptr<Memory> Buffer::memory_of(const Napi::CallbackInfo& info) const {
  if (info[2].IsUndefined()) return device_->allocate(size_);
  if (info[2].IsTypedArray()) {
    return cuda::open_memory(*device_, elements<std::byte>(info[2], cuda::kHandleBytes), size_);
  }
  const Buffer& whole = unwrap<Buffer>(info[2]);
  const auto offset = static_cast<std::size_t>(info[3].As<Napi::Number>().Int64Value());
  if (offset > whole.size() || size_ > whole.size() - offset) {
    throw Error("LENGTH", "A part within the buffer was expected.");
  }
  return std::make_shared<Part>(whole.memory_, offset, size_);
}

Buffer::~Buffer() { release(); }

void Buffer::release() {
  if (memory_ == nullptr) return;
  memory_.reset();
  device_.reset();
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -own_bytes_);
}

mtadam::Device& Buffer::device() const {
  if (device_ == nullptr) throw coded_error(Env(), "DISPOSED", "The buffer has been disposed of.");
  return *device_;
}

Napi::Value Buffer::pointer(const Napi::CallbackInfo& info) {
  if (memory_ != nullptr) memory_->lend();
  return Napi::BigInt::New(info.Env(), static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(data())));
}

// (array, stream): copies the array to the start of the buffer.
void Buffer::upload(const Napi::CallbackInfo& info) {
  const std::size_t bytes = info[0].As<Napi::TypedArray>().ByteLength();
  const std::byte* const from = address(info[0], bytes);
  std::byte* const to = address(info.This(), bytes);
  const Stream stream = stream_of(info[1], device());
  guarded(info.Env(), [&] { device().write(to, from, bytes, stream); });
}

// (array): fills the array from the start of the buffer. Returns a promise, or undefined where the array is complete.
Napi::Value Buffer::download(const Napi::CallbackInfo& info) {
  const Napi::TypedArray target = info[0].As<Napi::TypedArray>();
  const std::size_t bytes = target.ByteLength();
  std::byte* const to = address(target, bytes);
  const std::byte* const from = address(info.This(), bytes);
  if (device().immediate()) {
    guarded(info.Env(), [&] { device().read(to, from, bytes, nullptr); });
    return info.Env().Undefined();
  }
  return guarded(info.Env(), [&]() -> Napi::Value {
    // Not directly into the array, which may be detached and freed during the copy.
    auto arrived = std::make_shared<std::vector<std::byte>>(bytes);
    // On any stream that this package uses.
    std::shared_ptr<Event> computed = device_->all_done();
    auto wait = [computed, device = device_, memory = memory_, arrived] {
      computed->wait();
      device->read(arrived->data(), memory->data(), arrived->size(), device->own_stream());
    };
    auto reference = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[0].As<Napi::Object>()));
    auto finish = [reference, arrived] {
      const Napi::TypedArray array = reference->Value().As<Napi::TypedArray>();
      if (array.ByteLength() < arrived->size()) {
        throw coded_error(array.Env(), "LENGTH", "`target` must keep its elements; got an array that was detached.");
      }
      // Not memcpy: an empty array may have no address, and neither has an empty vector.
      std::copy(arrived->begin(), arrived->end(), addon::data(array));
    };
    return promise_of(info.Env(), std::move(wait), std::move(finish));
  });
}

// (array of one element): sets every element to it.
void Buffer::fill(const Napi::CallbackInfo& info) {
  const std::size_t element = info[0].As<Napi::TypedArray>().ByteLength();
  std::uint64_t pattern = 0;
  if (element == 0 || element > sizeof pattern) throw coded_error(info.Env(), "LENGTH", "One element was expected.");
  std::memcpy(&pattern, address(info[0], element), element);
  check_stream(info.Env(), nullptr, device());
  guarded(info.Env(), [&] { device().fill(memory_->data(), pattern, element, size_, nullptr); });
}

void Buffer::dispose(const Napi::CallbackInfo&) { release(); }

}  // namespace mtadam::addon
