#pragma once

#include <napi.h>

#include <memory>

#include "engine/optimizer.h"

namespace mtadam::addon {

/// Norms and cosines of an optimizer as they are after its calls so far, on their way to the host.
class Diagnostics final : public Napi::ObjectWrap<Diagnostics> {
 public:
  static Napi::Function define(Napi::Env env);

  /// (optimizer: Optimizer). Starts the copies; nothing waits for them. Throws (DISPOSED, CUDA, DISTRIBUTED,
  /// OUT_OF_MEMORY).
  explicit Diagnostics(const Napi::CallbackInfo& info);

 private:
  struct Copies;

  Napi::Value is_complete(const Napi::CallbackInfo& info);
  Napi::Value arrive(const Napi::CallbackInfo& info);
  void read(const Napi::CallbackInfo& info);

  std::size_t terms_, layers_;
  Anchor anchor_;
  std::uint32_t anchor_term_;
  std::shared_ptr<mtadam::Device> device_;
  std::shared_ptr<Copies> copies_;  // null once they have been read
};

}  // namespace mtadam::addon
