#pragma once

#include <napi.h>

namespace mtadam::addon {

/// Memory that one other process maps as well: a file without a name (memfd), which exists as long as a process has it
/// open or mapped. Its size is sealed before it is mapped: if one process could shrink the file, another that reads it
/// would end (SIGBUS). Linux only.
class SharedMemory final : public Napi::ObjectWrap<SharedMemory> {
 public:
  static Napi::Function define(Napi::Env env);

  /// (): an empty file. Throws (TORCH) on another system.
  explicit SharedMemory(const Napi::CallbackInfo& info);
  ~SharedMemory() override;

 private:
  Napi::Value descriptor(const Napi::CallbackInfo& info);
  Napi::Value map(const Napi::CallbackInfo& info);
  void close_descriptor();

  int descriptor_ = -1;
};

}  // namespace mtadam::addon
