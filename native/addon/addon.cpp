#include <napi.h>

#include "addon/exports.h"

// Loaded once per Node environment (main thread, each worker).
namespace mtadam::addon {
namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  define_exports(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(mtadam, initialize)

}  // namespace mtadam::addon
