#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "engine/device.h"
#include "engine/errors.h"

// From JavaScript values to C++ and from C++ errors to JavaScript. lib/ has checked every argument; what is checked
// again here is only what memory safety hangs on.

namespace mtadam::addon {

/// A JavaScript Error with `code` (without the prefix ERR_MTADAM_); lib/ makes an MTAdamError of it.
Napi::Error coded_error(Napi::Env env, const std::string& code, const std::string& message);
/// The same, with `cudaError` and `operation`.
Napi::Error coded_error(Napi::Env env, const DeviceError& error);
/// An error about one element of an array, with its `index`.
Napi::Error coded_error(Napi::Env env, const Error& error, std::uint32_t index);

/// Runs the body of a call; what it throws becomes a JavaScript exception.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const DeviceError& error) {
    throw coded_error(env, error);
  } catch (const Error& error) {
    throw coded_error(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw coded_error(env, "OUT_OF_MEMORY", "There is not enough memory on the CPU.");
  }
}

/// The C++ object behind one of this addon's JavaScript objects. T::kTypeTag tells them apart.
template <class T>
T& unwrap(const Napi::Value& value) {
  if (value.IsObject()) {
    const Napi::Object object = value.As<Napi::Object>();
    if (object.CheckTypeTag(&T::kTypeTag)) return *T::Unwrap(object);
  }
  throw coded_error(value.Env(), "OPTION", "An object of the native addon was expected.");
}

/// The first byte of a typed array's elements, in a shared buffer, too; null where it is detached. Asking moves a small
/// array that lies in V8's heap out of it, for good: its address then stays.
std::byte* data(const Napi::TypedArray& array);

/// The number of elements of a typed array. Throws (DTYPE) for any other value.
std::size_t element_count(const Napi::Value& value);

/// The elements of a typed array that holds `count` elements of T or more.
template <class T>
T* elements(const Napi::Value& value, std::size_t count) {
  const std::size_t given = element_count(value);
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  if (given < count || array.ElementSize() != sizeof(T)) {
    throw coded_error(value.Env(), "LENGTH", "A typed array of another length was expected.");
  }
  return reinterpret_cast<T*>(data(array));
}

/// A count, or an index that the engine checks. Throws (OPTION) unless the value is a number.
std::uint32_t number(const Napi::Value& value);
/// An index below `count`. Throws (OPTION) for any other value.
std::uint32_t index(const Napi::Value& value, std::uint32_t count);
Napi::Error index_error(Napi::Env env);

/// Where `bytes` bytes of a tensor lie: a typed array, a Buffer of the addon, or a BigInt, an address that is taken as
/// it is. Never null, not even for no bytes.
std::byte* address(const Napi::Value& value, std::size_t bytes);

/// null, or the handle of a stream as a BigInt. Throws (OPTION, STATE) unless calls of the device can come on it.
Stream stream_of(const Napi::Value& value, const mtadam::Device& device);
void check_stream(Napi::Env env, Stream stream, const mtadam::Device& device);
/// The same handle, unchecked.
Stream handle_of(const Napi::Value& value);

}  // namespace mtadam::addon
