#pragma once

#include <napi.h>

#include <memory>

#include "engine/address_table.h"

namespace mtadam::addon {

class Optimizer;

/// A table of gradient addresses, a row per term. lib/ keeps the memory at the addresses alive.
class Gradients final : public Napi::ObjectWrap<Gradients> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640004, 0x6772616469656e};
  static Napi::Function define(Napi::Env env);

  /// (optimizer: Optimizer)
  explicit Gradients(const Napi::CallbackInfo& info);

  AddressTable& table() const { return *table_; }

 private:
  Napi::Value set(const Napi::CallbackInfo& info);

  Napi::ObjectReference owner_;  // keeps the optimizer's wrapper, and so `optimizer_`, alive
  Optimizer* optimizer_ = nullptr;
  std::shared_ptr<AddressTable> table_;
};

}  // namespace mtadam::addon
