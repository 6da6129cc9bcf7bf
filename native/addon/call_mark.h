#pragma once

#include <napi.h>

#include <cstdint>

namespace mtadam::addon {

/// Whether a function is running. V8 can end JavaScript anywhere (a time-out of node:vm, Ctrl-C in the REPL) and then
/// runs no `finally`; C++ goes on, so that this mark is never left behind.
class CallMark final : public Napi::ObjectWrap<CallMark> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit CallMark(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CallMark>(info) {}

 private:
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value is_set(const Napi::CallbackInfo& info);

  std::uint32_t running_ = 0;
};

}  // namespace mtadam::addon
