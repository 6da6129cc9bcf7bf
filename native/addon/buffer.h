#pragma once

#include <napi.h>

#include <memory>

#include "engine/device.h"

namespace mtadam::addon {

/// Memory on a device, in bytes; lib/ knows the dtype.
class Buffer final : public Napi::ObjectWrap<Buffer> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640002, 0x62756666657200};
  static Napi::Function define(Napi::Env env);

  /// (device: Device, byteLength: number): new memory
  /// (…, handle: Uint8Array): an allocation of another process
  /// (…, whole: Buffer, offset: number): a part of another buffer, in bytes
  explicit Buffer(const Napi::CallbackInfo& info);
  ~Buffer() override;

  std::byte* data() const { return memory_ == nullptr ? nullptr : memory_->data(); }
  std::size_t size() const { return memory_ == nullptr ? 0 : size_; }

 private:
  Napi::Value pointer(const Napi::CallbackInfo& info);
  void upload(const Napi::CallbackInfo& info);
  Napi::Value download(const Napi::CallbackInfo& info);
  void fill(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  /// Throws (DISPOSED) after dispose().
  mtadam::Device& device() const;
  std::shared_ptr<Memory> memory_of(const Napi::CallbackInfo& info) const;
  void release();

  std::size_t size_ = 0;
  std::int64_t own_bytes_ = 0;  // that V8 is told of: not those of a part, nor of another process
  std::shared_ptr<mtadam::Device> device_;
  // Declared after device_, so that it is destroyed first. Downloads under way share it.
  std::shared_ptr<Memory> memory_;
};

}  // namespace mtadam::addon
