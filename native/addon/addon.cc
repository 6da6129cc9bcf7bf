#include <napi.h>

#include "addon/buffer.h"
#include "addon/device.h"
#include "addon/gradients.h"
#include "addon/optimizer.h"

// Loaded once per Node environment (main thread, each worker). Nothing is shared between them: all state hangs on
// the objects made here.
namespace mtadam::addon {
namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("Device", Device::define(env));
  exports.Set("Buffer", Buffer::define(env));
  exports.Set("Gradients", Gradients::define(env));
  exports.Set("Optimizer", Optimizer::define(env));
  exports.Set("describeCpu", Napi::Function::New(env, describe_cpu));
  exports.Set("stateBytes", Napi::Function::New(env, state_bytes));
  return exports;
}

}  // namespace

NODE_API_MODULE(mtadam, initialize)

}  // namespace mtadam::addon
