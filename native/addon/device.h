#pragma once

#include <napi.h>

#include <memory>

#include "engine/device.h"

namespace mtadam::addon {

/// JavaScript's handle on a device. Buffers and optimizers keep the device itself alive.
class Device final : public Napi::ObjectWrap<Device> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640001, 0x64657669636500};
  static Napi::Function define(Napi::Env env);

  /// ("cpu", threads: number, instructionSet: string) or ("cuda", index: number)
  explicit Device(const Napi::CallbackInfo& info);

  /// Throws (DISPOSED) after dispose().
  std::shared_ptr<mtadam::Device> get() const;

 private:
  Napi::Value name(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<mtadam::Device> device_;
};

/// describeCpu(): { instructionSets: string[] }, narrowest first.
Napi::Value describe_cpu(const Napi::CallbackInfo& info);

/// describeCuda(): { driver, runtime, reason: string; architectures: string[]; devices: { name, computeCapability,
/// reason: string }[] }, strings are empty where they do not apply.
Napi::Value describe_cuda(const Napi::CallbackInfo& info);

/// cudaOwner(address: bigint): the index of the CUDA device that owns the address, or −1.
Napi::Value cuda_owner(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
