#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/context.h"
#include "cuda/runtime.h"
#include "cuda/stream.h"
#include "engine/device.h"

namespace mtadam::cuda {

/// A memory pool of a device. It never makes an allocation wait for memory that is still being freed, as the default
/// pool does. Memory outlives its pool.
class Pool {
 public:
  /// Null where the device has no pools. Throws CudaError.
  static std::unique_ptr<Pool> of(const SharedContext& context);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  cudaMemPool_t get() const { return pool_; }

 private:
  explicit Pool(SharedContext context) : context_(std::move(context)) {}

  SharedContext context_;
  cudaMemPool_t pool_ = nullptr;
};

/// Allocates memory of a device. Where the device has memory pools, neither allocating nor freeing waits for the
/// device, unless its memory is full.
class DeviceAllocator {
 public:
  DeviceAllocator(SharedContext context, std::shared_ptr<EnqueuedWork> work);

  /// Zeroed memory, ready for any stream. Throws CudaError.
  std::unique_ptr<Memory> allocate(std::size_t bytes) const;

 private:
  void* take(std::size_t bytes) const;

  SharedContext context_;
  std::shared_ptr<EnqueuedWork> work_;
  OwnStream zeroing_;
  std::unique_ptr<Pool> pool_;  // null where the device has none
};

/// Memory of another process, opened by the handle of its allocation. Throws CudaError.
std::unique_ptr<Memory> open_allocation(const SharedContext& context, const cudaIpcMemHandle_t& handle,
                                        std::size_t bytes);

/// Pinned blocks that are kept and reused: cudaFreeHost waits for all work of the device.
class PinnedBlocks {
 public:
  struct Block {
    std::byte* memory;
    std::size_t bytes;
  };

  explicit PinnedBlocks(SharedContext context) : context_(std::move(context)) {}
  ~PinnedBlocks();
  PinnedBlocks(const PinnedBlocks&) = delete;
  PinnedBlocks& operator=(const PinnedBlocks&) = delete;

  /// A block of at least so many bytes. The context is current.
  Block take(std::size_t bytes);
  void give_back(const Block& block) { idle_.push_back(block); }

 private:
  SharedContext context_;
  std::vector<Block> idle_;
};

/// A copy from the device in a pinned block.
class PinnedCopy final : public HostCopy {
 public:
  PinnedCopy(const SharedContext& context, std::shared_ptr<PinnedBlocks> blocks, const void* from, std::size_t bytes,
             cudaStream_t stream);
  ~PinnedCopy() override;

  void wait() override { arrived_.wait(); }
  const std::byte* data() const override { return block_.memory; }

 private:
  CudaEvent arrived_;
  std::shared_ptr<PinnedBlocks> blocks_;
  PinnedBlocks::Block block_{};
};

/// Copies blocks to the device through pinned slots, which are reused once their copy is done. So the copy is
/// asynchronous, and the caller may change the block at once.
class PinnedRing {
 public:
  /// Slots are allocated as they are first needed.
  PinnedRing(SharedContext context, std::shared_ptr<EnqueuedWork> work, std::size_t slot_bytes, std::size_t slots)
      : context_(std::move(context)), work_(std::move(work)), slot_bytes_(slot_bytes), most_slots_(slots) {}
  ~PinnedRing();
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  /// The context is current.
  void send(void* to, const void* from, std::size_t bytes, cudaStream_t stream);

 private:
  struct Slot {
    std::byte* memory;
    std::unique_ptr<CudaEvent> done;
  };
  Slot& next();

  SharedContext context_;
  std::shared_ptr<EnqueuedWork> work_;
  std::size_t slot_bytes_;
  std::size_t most_slots_;
  std::vector<Slot> slots_;
  std::size_t turn_ = 0;
};

}  // namespace mtadam::cuda
