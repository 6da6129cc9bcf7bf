#pragma once

#include <napi.h>

namespace mtadam::addon {

/// Ends a child process with its Node environment, and reaps it: when a worker is terminated, nothing in JavaScript
/// runs, and libuv no longer waits for the worker's children, which would remain as zombies. Linux 5.4 and newer;
/// elsewhere it does nothing.
class Child final : public Napi::ObjectWrap<Child> {
 public:
  static Napi::Function define(Napi::Env env);

  /// (pid: number) of a child that has not been waited for.
  explicit Child(const Napi::CallbackInfo& info);
  ~Child() override;

 private:
  /// A pidfd, which refers to the child even after its pid belongs to another process. −1: none.
  [[maybe_unused]] int descriptor_ = -1;
};

}  // namespace mtadam::addon
