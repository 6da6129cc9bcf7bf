#include "addon/arguments.h"

#include "addon/buffer.h"

namespace mtadam::addon {

Napi::Error coded_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Napi::Error coded_error(Napi::Env env, const DeviceError& error) {
  Napi::Error coded = coded_error(env, error.code(), error.what());
  coded.Set("cudaError", Napi::String::New(env, error.status()));
  coded.Set("operation", Napi::String::New(env, error.operation()));
  return coded;
}

Napi::Error coded_error(Napi::Env env, const Error& error, std::uint32_t index) {
  Napi::Error coded = coded_error(env, error.code(), error.what());
  coded.Set("index", Napi::Number::New(env, index));
  return coded;
}

std::uint32_t number(const Napi::Value& value) {
  if (!value.IsNumber()) throw coded_error(value.Env(), "OPTION", "A number was expected.");
  return value.As<Napi::Number>().Uint32Value();
}

Napi::Error index_error(Napi::Env env) { return coded_error(env, "OPTION", "An index is out of range."); }

std::uint32_t index(const Napi::Value& value, std::uint32_t count) {
  const std::uint32_t given = number(value);
  if (given >= count) throw index_error(value.Env());
  return given;
}

std::size_t element_count(const Napi::Value& value) {
  if (!value.IsTypedArray()) throw coded_error(value.Env(), "DTYPE", "A typed array was expected.");
  return value.As<Napi::TypedArray>().ElementLength();
}

// Napi::TypedArray::ArrayBuffer() cannot return a SharedArrayBuffer.
std::byte* data(const Napi::TypedArray& array) {
  void* first = nullptr;
  if (napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, &first, nullptr, nullptr) != napi_ok) {
    throw Napi::Error::New(array.Env());
  }
  return static_cast<std::byte*>(first);
}

namespace {

void* pointer_of(const Napi::Value& value) {
  bool lossless = true;
  const std::uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw coded_error(value.Env(), "OPTION", "An address of 64 bits was expected.");
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(number));
}

}  // namespace

void check_stream(Napi::Env env, Stream stream, const mtadam::Device& device) {
  try {
    device.check_stream(stream);
  } catch (const DeviceError& error) {
    throw coded_error(env, error);
  } catch (const Error& error) {
    throw coded_error(env, error.code(), std::string("`stream` ") + error.what());
  }
}

std::uint64_t name_key_of(const Napi::Value& name) {
  const std::string text = name.ToString();
  return name_key(text.data(), text.size());
}

Stream handle_of(const Napi::Value& value) { return value.IsBigInt() ? pointer_of(value) : nullptr; }

Stream stream_of(const Napi::Value& value, const mtadam::Device& device) {
  const Stream stream = handle_of(value);
  check_stream(value.Env(), stream, device);
  return stream;
}

std::byte* address(const Napi::Value& value, std::size_t bytes) {
  // Stands for empty arrays, which may have no address: null means absent. Never dereferenced.
  static std::byte nothing;
  std::byte* found = nullptr;
  if (value.IsTypedArray()) {
    const Napi::TypedArray array = value.As<Napi::TypedArray>();
    if (array.ByteLength() < bytes) {
      throw coded_error(value.Env(), "LENGTH", "A typed array of another length was expected.");
    }
    found = data(array);
  } else if (value.IsBigInt()) {
    found = static_cast<std::byte*>(pointer_of(value));
  } else {
    const Buffer& buffer = unwrap<Buffer>(value);
    if (buffer.size() < bytes) throw coded_error(value.Env(), "LENGTH", "A buffer of another length was expected.");
    found = buffer.data();
  }
  return bytes == 0 || found == nullptr ? &nothing : found;
}

}  // namespace mtadam::addon
