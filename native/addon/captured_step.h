#pragma once

#include <napi.h>

#include <memory>

#include "engine/optimizer.h"

namespace mtadam::addon {

class Optimizer;

/// A captured step of one optimizer. lib/ keeps the memory of its gradients alive.
class CapturedStep final : public Napi::ObjectWrap<CapturedStep> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640005, 0x63617074757265};
  static Napi::Function define(Napi::Env env);

  /// (optimizer: Optimizer, gradients: Gradients, stream: bigint | null)
  explicit CapturedStep(const Napi::CallbackInfo& info);

 private:
  void replay(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  Napi::ObjectReference owner_;  // keeps the optimizer's wrapper, and so `optimizer_`, alive
  Optimizer* optimizer_ = nullptr;
  std::unique_ptr<mtadam::CapturedStep> step_;
};

}  // namespace mtadam::addon
