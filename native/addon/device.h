#pragma once

#include <napi.h>

#include <memory>

#include "engine/device.h"

namespace mtadam::addon {

/// What JavaScript holds of a device. Buffers and optimizers keep the device itself alive.
class Device final : public Napi::ObjectWrap<Device> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640001, 0x64657669636500};
  static Napi::Function define(Napi::Env env);

  /// (threads: number, instructionSet: string)
  explicit Device(const Napi::CallbackInfo& info);

  /// Throws (DISPOSED) after dispose().
  std::shared_ptr<mtadam::Device> get() const;

 private:
  Napi::Value instruction_set(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<mtadam::Device> device_;
  const char* instruction_set_ = "";
};

/// describeCpu(): { instructionSets: string[] }, narrowest first.
Napi::Value describe_cpu(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
