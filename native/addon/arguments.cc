#include "addon/arguments.h"

#include "addon/buffer.h"

namespace mtadam::addon {

Napi::Error coded_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

std::uint32_t index(const Napi::Value& value) {
  if (!value.IsNumber()) throw coded_error(value.Env(), "OPTION", "A number was expected.");
  return value.As<Napi::Number>().Uint32Value();
}

// The wrapper's ArrayBuffer() is no way to a SharedArrayBuffer.
std::byte* data(const Napi::TypedArray& array) {
  void* first = nullptr;
  if (napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, &first, nullptr, nullptr) != napi_ok) {
    throw Napi::Error::New(array.Env());
  }
  return static_cast<std::byte*>(first);
}

std::byte* address(const Napi::Value& value, std::size_t bytes) {
  // Null means absent, and an empty array may have no address of its own. This one is never dereferenced.
  static std::byte nothing;
  std::byte* found = nullptr;
  if (value.IsTypedArray()) {
    const Napi::TypedArray array = value.As<Napi::TypedArray>();
    if (array.ByteLength() < bytes) {
      throw coded_error(value.Env(), "LENGTH", "A typed array of another length was expected.");
    }
    found = data(array);
  } else {
    const Buffer& buffer = unwrap<Buffer>(value);
    if (buffer.size() < bytes) throw coded_error(value.Env(), "LENGTH", "A buffer of another length was expected.");
    found = buffer.data();
  }
  return bytes == 0 || found == nullptr ? &nothing : found;
}

}  // namespace mtadam::addon
