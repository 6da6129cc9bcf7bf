#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "test/simt/cuda/memory.h"
#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"
#include "test/simt/sanitizers.h"

namespace simt::cuda {

namespace {

using Kind = Place::Kind;

struct Copy {
  char* to;
  const char* from;
  std::size_t bytes;
};

/// Enough to tell that memory has changed.
std::uint64_t fingerprint(const char* begin, std::size_t bytes) {
  std::uint64_t hash = bytes;
  for (; bytes >= 8; begin += 8, bytes -= 8) {
    std::uint64_t word;
    std::memcpy(&word, begin, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
  }
  for (; bytes > 0; ++begin, --bytes) hash = (hash ^ static_cast<unsigned char>(*begin)) * 0x9e3779b97f4a7c15u;
  return hash;
}

/// While an operation waits, its memory may be freed.
void require_live(const void* begin, std::size_t bytes) {
  if (place_of(begin, bytes).kind != Kind::kInvalid) return;
  throw OperationFailed(cudaErrorIllegalAddress, "memory was freed while a copy from or to it was queued");
}

Operation staged_to_device(const Copy& copy, const std::shared_ptr<const std::vector<char>>& staged) {
  Operation operation;
  operation.run = [=] {
    require_live(copy.to, copy.bytes);
    std::memcpy(copy.to, staged->data(), copy.bytes);
  };
  return operation;
}

/// From pinned memory, which the device reads when the operation runs: until then the program must leave it as it is.
Operation pinned_to_device(const Copy& copy) {
  std::optional<std::uint64_t> queued;
  if (!Runtime::get().awaits_delivery({copy.from, copy.bytes})) queued = fingerprint(copy.from, copy.bytes);
  Operation operation;
  operation.source = {copy.from, copy.bytes};
  operation.run = [=] {
    require_live(copy.to, copy.bytes);
    require_live(copy.from, copy.bytes);
    Runtime::get().deliver_into({copy.from, copy.bytes});
    if (queued && fingerprint(copy.from, copy.bytes) != *queued) {
      throw OperationFailed(cudaErrorLaunchFailure,
                            "pinned memory was overwritten while a copy from it to the device was queued");
    }
    std::memcpy(copy.to, copy.from, copy.bytes);
  };
  return operation;
}

Operation to_host(const Copy& copy) {
  Operation operation;
  operation.delivery = std::make_shared<Delivery>(Delivery{copy.to, std::vector<char>(copy.bytes)});
  operation.run = [copy, delivery = operation.delivery] {
    require_live(copy.to, copy.bytes);
    require_live(copy.from, copy.bytes);
    std::memcpy(delivery->data.data(), copy.from, copy.bytes);
  };
  return operation;
}

Operation in_place(const Copy& copy) {
  Operation operation;
  operation.run = [=] {
    require_live(copy.to, copy.bytes);
    require_live(copy.from, copy.bytes);
    Runtime::get().deliver_into({copy.from, copy.bytes});
    std::memmove(copy.to, copy.from, copy.bytes);
  };
  return operation;
}

bool kind_fits(cudaMemcpyKind kind, Kind to, Kind from) {
  if (kind == cudaMemcpyDefault) return true;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return to_device == (to == Kind::kDevice) && from_device == (from == Kind::kDevice);
}

cudaError_t copy_on(Runtime& runtime, const std::shared_ptr<Stream>& stream, const Copy& copy, cudaMemcpyKind kind,
                    bool wait) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (copy.bytes == 0) return cudaSuccess;
  if (!copy.to || !copy.from) return cudaErrorInvalidValue;
  const Kind to = place_of(copy.to, copy.bytes).kind;
  const Kind from = place_of(copy.from, copy.bytes).kind;
  if (to == Kind::kInvalid || from == Kind::kInvalid || !kind_fits(kind, to, from)) return cudaErrorInvalidValue;

  const bool pageable = to == Kind::kPageable || from == Kind::kPageable;
  if (pageable && stream->capture) {
    stream->capture->invalidated = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  runtime.counters.pageable_copies += pageable && !wait;

  Recipe recipe{cudaGraphNodeTypeMemcpy, [=] { return in_place(copy); }};
  if (to == Kind::kDevice && from == Kind::kPageable) {
    const auto staged = std::make_shared<const std::vector<char>>(copy.from, copy.from + copy.bytes);
    recipe.make = [=] { return staged_to_device(copy, staged); };
  } else if (to == Kind::kDevice && from == Kind::kPinned) {
    recipe.make = [=] { return pinned_to_device(copy); };
  } else if (to != Kind::kDevice && from == Kind::kDevice) {
    recipe.make = [=] { return to_host(copy); };
  }
  const auto count_and_make = [make = recipe.make, bytes = copy.bytes] {
    Counters& counters = Runtime::get().counters;
    counters.copies += 1;
    counters.copied_bytes += bytes;
    return make();
  };
  const cudaError_t error = runtime.enqueue(stream, {recipe.type, count_and_make});
  if (error != cudaSuccess) return error;

  // Waits for copies to pageable memory and from the device to the host, but not for copies on the device.
  const bool returns_when_done = wait ? !(to == Kind::kDevice && from != Kind::kPinned) : to == Kind::kPageable;
  if (returns_when_done && !stream->capture) {
    runtime.synchronise(stream);
    return runtime.device(stream->device).sticky;
  }
  return cudaSuccess;
}

cudaError_t fill_on(Runtime& runtime, const std::shared_ptr<Stream>& stream, void* memory, int value,
                    std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  const Kind kind = place_of(memory, bytes).kind;
  if (kind != Kind::kDevice && kind != Kind::kPinned) return cudaErrorInvalidValue;
  const Recipe recipe{cudaGraphNodeTypeMemset, [=] {
                        Operation operation;
                        operation.run = [=] {
                          require_live(memory, bytes);
                          std::memset(memory, value, bytes);
                        };
                        return operation;
                      }};
  return runtime.enqueue(stream, recipe);
}

}  // namespace

}  // namespace simt::cuda

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  SIMT_CUDA_CALL(kSafe);
  const simt::cuda::Copy copy{static_cast<char*>(to), static_cast<const char*>(from), bytes};
  return call.done(simt::cuda::copy_on(runtime, runtime.current().legacy, copy, kind, true));
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  SIMT_CUDA_CALL(kContext);
  const auto stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  const simt::cuda::Copy copy{static_cast<char*>(to), static_cast<const char*>(from), bytes};
  return call.done(simt::cuda::copy_on(runtime, stream, copy, kind, false));
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  SIMT_CUDA_CALL(kSafe);
  return call.done(simt::cuda::fill_on(runtime, runtime.current().legacy, memory, value, bytes));
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t handle) {
  SIMT_CUDA_CALL(kContext);
  const auto stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  return call.done(simt::cuda::fill_on(runtime, stream, memory, value, bytes));
}

}  // extern "C"
