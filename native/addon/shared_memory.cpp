// Elsewhere the addon makes no external ArrayBuffers, which Electron refuses; here they are the point.
#undef NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED
#include "addon/shared_memory.h"

#ifdef __linux__
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <unistd.h>
#endif

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "addon/arguments.h"

namespace mtadam::addon {

#ifdef __linux__

namespace {

Error system_error(const char* call) {
  const int number = errno;
  if (number == ENOMEM || number == ENOSPC) {
    return {"OUT_OF_MEMORY", "There is not enough memory on the CPU for the parameters and gradients."};
  }
  return {"TORCH", std::string("Memory cannot be shared with another process: ") + call + " failed (" +
                       std::strerror(number) + ")."};
}

/// Pages that are unmapped with the last array over them.
class Mapping {
 public:
  Mapping(int descriptor, std::size_t size) : size_(size) {
    void* const begin = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (begin == MAP_FAILED) throw system_error("mmap");
    begin_ = static_cast<std::byte*>(begin);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { munmap(begin_, size_); }

  std::byte* begin() const { return begin_; }

 private:
  std::byte* begin_ = nullptr;
  std::size_t size_;
};

using Share = std::shared_ptr<Mapping>;

/// What one array keeps of a mapping.
struct Part {
  Share mapping;
  std::int64_t bytes;
};

void release(napi_env env, void*, void* hint) {
  const std::unique_ptr<Part> part(static_cast<Part*>(hint));
  Napi::MemoryManagement::AdjustExternalMemory(env, -part->bytes);
}

/// A Float32Array, or a Uint16Array of elements of 2 bytes. Each has an ArrayBuffer of its own, which Node may limit to
/// 4 GiB.
Napi::Value array_over(Napi::Env env, const Share& mapping, std::size_t offset, std::size_t length,
                       std::size_t element_bytes) {
  const bool narrow = element_bytes == sizeof(std::uint16_t);
  if (length == 0) return narrow ? Napi::Value(Napi::Uint16Array::New(env, 0)) : Napi::Float32Array::New(env, 0);
  const std::size_t bytes = length * element_bytes;
  auto part = std::make_unique<Part>(Part{mapping, static_cast<std::int64_t>(bytes)});
  napi_value buffer = nullptr;
  const napi_status status =
      napi_create_external_arraybuffer(env, mapping->begin() + offset, bytes, release, part.get(), &buffer);
  if (status != napi_ok) {
    // Electron's V8 takes no memory from outside its own cage.
    if (env.IsExceptionPending()) throw env.GetAndClearPendingException();
    throw Error("TORCH", "This runtime cannot show the memory of another process as an ArrayBuffer.");
  }
  Napi::MemoryManagement::AdjustExternalMemory(env, part.release()->bytes);
  // Node refuses to transfer such a buffer to another thread, but not what `transfer` makes of it, and unmaps the
  // memory with this environment.
  const auto refuse = [](const Napi::CallbackInfo& info) {
    throw coded_error(info.Env(), "TORCH", "Memory that is shared with another process cannot be transferred.");
  };
  const Napi::ArrayBuffer array_buffer(env, buffer);
  array_buffer.DefineProperties(
      {Napi::PropertyDescriptor::Function(env, array_buffer, "transfer", refuse),
       Napi::PropertyDescriptor::Function(env, array_buffer, "transferToFixedLength", refuse)});
  if (narrow) return Napi::Uint16Array::New(env, length, array_buffer, 0);
  return Napi::Float32Array::New(env, length, array_buffer, 0);
}

}  // namespace

SharedMemory::SharedMemory(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SharedMemory>(info) {
  guarded(info.Env(), [&] {
    descriptor_ = memfd_create("mtadam", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor_ < 0) throw system_error("memfd_create");
  });
}

void SharedMemory::close_descriptor() {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
}

// (byteLength, offsets: Float64Array in bytes, lengths: Float64Array in elements, elementBytes: Float64Array): sizes,
// seals and maps the file, once, closes the descriptor, and returns an array per offset.
Napi::Value SharedMemory::map(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto size = static_cast<std::size_t>(info[0].As<Napi::Number>().Int64Value());
    const std::size_t count = element_count(info[1]);
    const double* const offsets = elements<double>(info[1], count);
    const double* const lengths = elements<double>(info[2], count);
    const double* const bytes = elements<double>(info[3], count);
    for (std::size_t k = 0; k < count; ++k) {
      const auto offset = static_cast<std::size_t>(offsets[k]);
      const auto length = static_cast<std::size_t>(lengths[k]);
      const auto each = static_cast<std::size_t>(bytes[k]);
      const bool known = each == sizeof(float) || each == sizeof(std::uint16_t);
      if (known && offset % each == 0 && offset <= size && length <= (size - offset) / each) continue;
      throw Error("LENGTH", "An array within the shared memory was expected.");
    }
    if (ftruncate(descriptor_, static_cast<off_t>(size)) != 0) throw system_error("ftruncate");
    if (fcntl(descriptor_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) throw system_error("fcntl");
    const Share mapping = std::make_shared<Mapping>(descriptor_, size);
    close_descriptor();
    const Napi::Array arrays = Napi::Array::New(env, count);
    for (std::size_t k = 0; k < count; ++k) {
      arrays.Set(static_cast<std::uint32_t>(k),
                 array_over(env, mapping, static_cast<std::size_t>(offsets[k]), static_cast<std::size_t>(lengths[k]),
                            static_cast<std::size_t>(bytes[k])));
    }
    return arrays;
  });
}

#else

SharedMemory::SharedMemory(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SharedMemory>(info) {
  throw coded_error(info.Env(), "TORCH", "Memory is shared with another process on Linux only.");
}

void SharedMemory::close_descriptor() {}

Napi::Value SharedMemory::map(const Napi::CallbackInfo& info) { return info.Env().Undefined(); }

#endif

SharedMemory::~SharedMemory() { close_descriptor(); }

Napi::Function SharedMemory::define(Napi::Env env) {
  return DefineClass(
      env, "SharedMemory",
      {InstanceAccessor<&SharedMemory::descriptor>("descriptor"), InstanceMethod<&SharedMemory::map>("map")});
}

// -1 once the file is mapped.
Napi::Value SharedMemory::descriptor(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), descriptor_);
}

}  // namespace mtadam::addon
