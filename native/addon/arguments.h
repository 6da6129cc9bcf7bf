#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "engine/device.h"
#include "engine/errors.h"

// Converts JavaScript values to C++ and C++ errors to JavaScript. lib/ has checked every argument; native code checks
// again what memory safety depends on.

namespace mtadam::addon {

/// A JavaScript Error with `code` (without the prefix ERR_MTADAM_); lib/ turns it into an MTAdamError.
Napi::Error coded_error(Napi::Env env, const std::string& code, const std::string& message);
/// The same, with `cudaError` and `operation`.
Napi::Error coded_error(Napi::Env env, const DeviceError& error);
/// An error about one element of an array, with its `index`.
Napi::Error coded_error(Napi::Env env, const Error& error, std::uint32_t index);

/// Runs the body of a call and turns its C++ exceptions into JavaScript's.
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

/// The C++ object behind one of this addon's JavaScript objects, identified by T::kTypeTag. Throws (OPTION) for any
/// other value.
template <class T>
T& unwrap(const Napi::Value& value) {
  if (value.IsObject()) {
    const Napi::Object object = value.As<Napi::Object>();
    if (object.CheckTypeTag(&T::kTypeTag)) return *T::Unwrap(object);
  }
  throw coded_error(value.Env(), "OPTION", "An object of the native addon was expected.");
}

/// The first byte of a typed array's elements, also in a shared buffer; null if it is detached. The call moves a small
/// array out of V8's heap for good, so its address stays valid.
std::byte* data(const Napi::TypedArray& array);

/// The number of elements of a typed array. Throws (DTYPE) for any other value.
std::size_t element_count(const Napi::Value& value);

/// The elements of a typed array. Throws (DTYPE, LENGTH) unless it has at least `count` elements of the size of T.
template <class T>
T* elements(const Napi::Value& value, std::size_t count) {
  const std::size_t given = element_count(value);
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  if (given < count || array.ElementSize() != sizeof(T)) {
    throw coded_error(value.Env(), "LENGTH", "A typed array of another length was expected.");
  }
  return reinterpret_cast<T*>(data(array));
}

/// name_key() of a string's UTF-8.
std::uint64_t name_key_of(const Napi::Value& name);

/// A count, or an index that the engine checks. Throws (OPTION) unless the value is a number.
std::uint32_t number(const Napi::Value& value);
/// An index below `count`. Throws (OPTION) for any other value.
std::uint32_t index(const Napi::Value& value, std::uint32_t count);
Napi::Error index_error(Napi::Env env);

/// The address of `bytes` bytes of a tensor, given as a typed array, a Buffer of the addon or a BigInt, which is an
/// address and not checked. Never null, even for 0 bytes. Throws (LENGTH) where there are fewer bytes.
std::byte* address(const Napi::Value& value, std::size_t bytes);

/// The stream whose handle a BigInt is; null is the default stream. Throws (OPTION, STATE) unless the device can
/// enqueue calls on it.
Stream stream_of(const Napi::Value& value, const mtadam::Device& device);
void check_stream(Napi::Env env, Stream stream, const mtadam::Device& device);
/// The same, unchecked.
Stream handle_of(const Napi::Value& value);

}  // namespace mtadam::addon
