#pragma once

#include <napi.h>

#include <memory>

#include "engine/exchange.h"

namespace mtadam::addon {

/// The processes of an MPI job, or of a communicator of NCCL.
class Communicator final : public Napi::ObjectWrap<Communicator> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640009, 0x636f6d6d756e6963};
  static Napi::Function define(Napi::Env env);

  /// ("mpi", libraries: string[], timeout: number in seconds) or ("nccl", libraries, timeout, device: Device, id:
  /// Uint8Array, rank: number, size: number). Throws (DISTRIBUTED).
  explicit Communicator(const Napi::CallbackInfo& info);

  std::shared_ptr<Collective> get() const { return world_; }

 private:
  Napi::Value rank(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value library(const Napi::CallbackInfo& info);
  void agree(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<Collective> world_;
};

/// ncclId(libraries: string[]): Uint8Array. Throws (DISTRIBUTED).
Napi::Value nccl_id(const Napi::CallbackInfo& info);

/// Reads { communicator, state, ordered, bfloat16 }, or null: no other process.
Sharing sharing_of(const Napi::Value& value);

}  // namespace mtadam::addon
