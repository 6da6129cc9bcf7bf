#pragma once

#include <napi.h>

#include <cstdint>

namespace mtadam::addon {

/// Whether a function is running. V8 can end JavaScript anywhere (a time-out of node:vm, Ctrl-C in the REPL) without
/// running `finally`. C++ code still runs to its end and always clears the mark.
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
