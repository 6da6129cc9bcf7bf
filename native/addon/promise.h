#pragma once

#include <napi.h>

#include <functional>
#include <new>
#include <utility>

#include "addon/arguments.h"

namespace mtadam::addon {

/// Waits for a device: runs `wait` on a thread of Node's pool, then `finish` on JavaScript's thread, and destroys both
/// on JavaScript's thread.
template <class Wait, class Finish>
class PromisedWork final : public Napi::AsyncWorker {
 public:
  PromisedWork(Napi::Env env, Wait wait, Finish finish)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        wait_(std::move(wait)),
        finish_(std::move(finish)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 private:
  void Execute() override {
    try {
      wait_();
    } catch (const DeviceError& error) {
      failure_ = [error] { throw error; };
    } catch (const Error& error) {
      failure_ = [error] { throw error; };
    } catch (const std::bad_alloc&) {
      failure_ = [] { throw std::bad_alloc(); };
    }
  }

  void OnOK() override {
    try {
      guarded(Env(), [&] {
        if (failure_) failure_();
        finish_();
      });
      deferred_.Resolve(Env().Undefined());
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

  // For exceptions that Execute() does not catch.
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  Wait wait_;
  Finish finish_;
  // Rethrows the error of `wait`. A std::exception_ptr would need the libstdc++ of GCC 11.
  std::function<void()> failure_;
};

/// A promise of undefined, settled when `wait` and `finish` have run or one of them has thrown.
template <class Wait, class Finish>
Napi::Promise promise_of(Napi::Env env, Wait wait, Finish finish) {
  auto* const work = new PromisedWork<Wait, Finish>(env, std::move(wait), std::move(finish));  // deletes itself
  const Napi::Promise promise = work->promise();
  work->Queue();
  return promise;
}

}  // namespace mtadam::addon
