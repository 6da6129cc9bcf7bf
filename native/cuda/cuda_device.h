#pragma once

#include <string>

#include "cuda/memory.h"
#include "cuda/runtime.h"
#include "engine/device.h"

namespace mtadam::cuda {

/// A CUDA device. Calls enqueue on their stream and return; a null stream is the legacy default stream, which orders
/// itself with all that the user does on blocking streams.
class CudaDevice final : public Device {
 public:
  /// Throws Error (NO_DEVICE, DRIVER, CUDA) where there is no such device or it cannot be used.
  explicit CudaDevice(int index);

  int index() const { return index_; }

  std::unique_ptr<Memory> allocate(std::size_t bytes) override;
  void write(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void read(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) override;
  void join(Stream earlier, Stream later) override;
  void norms(const Tables& tables, const Call& call, Stream stream) override;
  void moments(const Tables& tables, const Call& call, Stream stream) override;
  void update(const Tables& tables, Stream stream) override;
  void update(const Tables& tables, const Call& call, Stream stream) override;
  void add(float* target, const float* source, std::uint64_t count, Stream stream) override;

  /// Waits for all that was enqueued on the device, and throws CudaError for what went wrong in it.
  void synchronize();

 private:
  int index_;
  PinnedRing ring_;
};

}  // namespace mtadam::cuda
