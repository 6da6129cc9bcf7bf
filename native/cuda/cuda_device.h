#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cuda/memory.h"
#include "cuda/pointers.h"
#include "cuda/runtime.h"
#include "engine/device.h"

namespace mtadam::cuda {

/// A CUDA device. Calls enqueue on their stream and return; a null stream is the legacy default stream, which orders
/// itself with all that the user does on blocking streams.
class CudaDevice final : public Device {
 public:
  /// Throws Error (NO_DEVICE, DRIVER, CUDA) where there is no such device or it cannot be used. `cache_bytes`: what the
  /// second-level cache is taken to hold, for tests.
  explicit CudaDevice(int index, std::optional<std::uint64_t> cache_bytes = std::nullopt);

  std::string name() const override { return name_; }
  bool immediate() const override { return false; }
  Stream default_stream() const override;
  Stream own_stream() const override { return own_.get(); }
  void check_stream(Stream stream) const override;
  bool is_capturing(Stream stream) const override;
  void check_range(const void* address, std::size_t bytes) const override;

  std::unique_ptr<Memory> allocate(std::size_t bytes) override;
  /// See open_memory.
  std::unique_ptr<Memory> open_memory(const std::byte* handle, std::size_t bytes) const;
  void write(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void read(void* to, const void* from, std::size_t bytes, Stream stream) override;
  std::unique_ptr<HostCopy> read_later(const void* from, std::size_t bytes, Stream stream) override;
  void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) override;
  std::unique_ptr<Event> make_event() override;
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& calls) override;
  std::unique_ptr<Event> all_done() override;
  void load(const Tables& tables) override;
  void norms(const Tables& tables, const Call& call, Stream stream) override;
  void cosines(const Tables& tables, const Call& call, Stream stream) override;
  void moments(const Tables& tables, const Call& call, Stream stream) override;
  void update(const Tables& tables, Stream stream) override;
  void update(const Tables& tables, const Call& call, Stream stream) override;
  bool step_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override;
  bool accumulate_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override;
  void zero(const Tables& tables, const Call& call, Stream stream) override;
  void add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) override;
  void make_current(const std::function<void()>& calls) const override;
  void copy(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void narrow(std::uint16_t* to, const float* from, std::uint64_t count, Stream stream) override;
  void widen(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type, Stream stream) override;

 private:
  bool reads_once(const Tables& tables, const OnePass& pass) const;

  SharedContext context_;
  std::string name_;
  std::uint32_t multiprocessors_ = 0;
  std::uint64_t cache_bytes_ = 0;  // of the second level
  PointerCheck pointer_check_;
  OwnStream own_;
  std::shared_ptr<EnqueuedWork> work_ = std::make_shared<EnqueuedWork>(context_);
  DeviceAllocator allocator_;
  std::shared_ptr<PinnedBlocks> read_ = std::make_shared<PinnedBlocks>(context_);
  PinnedRing small_;
  PinnedRing large_;
  std::unique_ptr<Event> filled_;  // the last fill
};

}  // namespace mtadam::cuda
