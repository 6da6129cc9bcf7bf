#include "cuda/memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cuda/errors.h"

namespace mtadam::cuda {

namespace {

constexpr std::size_t kLeastPinnedBytes = 4096;  // a page, below which pinning saves nothing

class DeviceMemory final : public Memory {
 public:
  DeviceMemory(SharedContext context, std::byte* data, std::size_t size)
      : Memory(data, size), context_(std::move(context)) {}

  // cudaFree waits for all work of the device, as measured; cudaDeviceSynchronize would invalidate a capture of the
  // user's in every mode.
  ~DeviceMemory() override {
    release_in(context_, [&] { cudaFree(data()); });
  }

 private:
  SharedContext context_;
};

// Nothing knows the streams that others use, so what was lent to them waits for the whole device, as cudaFree does for
// memory that is not a pool's.
void wait_for_device() {
  void* spare = nullptr;
  if (cudaMalloc(&spare, 1) != cudaSuccess) {
    cudaGetLastError();
    cudaDeviceSynchronize();
    return;
  }
  cudaFree(spare);
}

class OpenedMemory final : public Memory {
 public:
  OpenedMemory(SharedContext context, std::byte* data, std::size_t size)
      : Memory(data, size), context_(std::move(context)) {}

  ~OpenedMemory() override {
    release_in(context_, [&] {
      // Unlike cudaFree, closing is not documented to wait for the work that uses the memory.
      wait_for_device();
      cudaIpcCloseMemHandle(data());
    });
  }

 private:
  SharedContext context_;
};

class PoolMemory final : public Memory {
 public:
  PoolMemory(SharedContext context, std::shared_ptr<EnqueuedWork> work, std::byte* data, std::size_t size)
      : Memory(data, size), context_(std::move(context)), work_(std::move(work)) {}

  ~PoolMemory() override {
    release_in(context_, [&] {
      if (lent()) wait_for_device();
      work_->free_after(data());
    });
  }

 private:
  SharedContext context_;
  std::shared_ptr<EnqueuedWork> work_;
};

}  // namespace

std::unique_ptr<Memory> open_allocation(const SharedContext& context, const cudaIpcMemHandle_t& handle,
                                        std::size_t bytes) {
  const CurrentContext current(*context);
  void* data = nullptr;
  check(cudaIpcOpenMemHandle(&data, handle, cudaIpcMemLazyEnablePeerAccess), "cudaIpcOpenMemHandle");
  return std::make_unique<OpenedMemory>(context, static_cast<std::byte*>(data), bytes);
}

std::unique_ptr<Pool> Pool::of(const SharedContext& context) {
  const CurrentContext current(*context);
  int supported = 0;
  check(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, context->device()),
        "cudaDeviceGetAttribute");
  if (supported == 0) return nullptr;
  std::unique_ptr<Pool> pool(new Pool(context));
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.handleTypes = cudaMemHandleTypeNone;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = context->device();
  check(cudaMemPoolCreate(&pool->pool_, &properties), "cudaMemPoolCreate");
  // Otherwise a pool may reuse memory whose free still waits for work, and make the allocation's stream wait for it.
  int no = 0;
  check(cudaMemPoolSetAttribute(pool->pool_, cudaMemPoolReuseAllowInternalDependencies, &no),
        "cudaMemPoolSetAttribute");
  return pool;
}

Pool::~Pool() {
  if (pool_ == nullptr) return;
  release_in(context_, [&] { cudaMemPoolDestroy(pool_); });
}

DeviceAllocator::DeviceAllocator(SharedContext context, std::shared_ptr<EnqueuedWork> work)
    : context_(std::move(context)), work_(std::move(work)), zeroing_(context_), pool_(Pool::of(context_)) {}

void* DeviceAllocator::take(std::size_t bytes) const {
  void* data = nullptr;
  if (pool_ == nullptr) {
    check(cudaMalloc(&data, bytes), "cudaMalloc");
    return data;
  }
  cudaError_t error = cudaMallocFromPoolAsync(&data, bytes, pool_->get(), zeroing_.get());
  if (error == cudaErrorMemoryAllocation && work_->wait_for_frees()) {
    cudaGetLastError();  // of the failure, which nobody else must find
    error = cudaMallocFromPoolAsync(&data, bytes, pool_->get(), zeroing_.get());
  }
  check(error, "cudaMallocFromPoolAsync");
  return data;
}

std::unique_ptr<Memory> DeviceAllocator::allocate(std::size_t bytes) const {
  const CurrentContext current(*context_);
  // At least one byte, since empty memory needs an address, too.
  auto* const data = static_cast<std::byte*>(take(bytes == 0 ? 1 : bytes));
  std::unique_ptr<Memory> memory;
  if (pool_ != nullptr) {
    memory = std::make_unique<PoolMemory>(context_, work_, data, bytes);
  } else {
    memory = std::make_unique<DeviceMemory>(context_, data, bytes);
  }
  check(cudaMemsetAsync(data, 0, bytes, zeroing_.get()), "cudaMemsetAsync");
  // So that the memory is zeroed for every stream. The stream carries no other work.
  check(cudaStreamSynchronize(zeroing_.get()), "cudaStreamSynchronize");
  return memory;
}

PinnedBlocks::~PinnedBlocks() {
  release_in(context_, [&] {
    for (const Block& block : idle_) cudaFreeHost(block.memory);
  });
}

PinnedBlocks::Block PinnedBlocks::take(std::size_t bytes) {
  // Few sizes, so that one model's block serves the next one as well.
  const std::size_t size = std::bit_ceil(std::max(bytes, kLeastPinnedBytes));
  const auto found = std::find_if(idle_.begin(), idle_.end(), [&](const Block& block) { return block.bytes == size; });
  if (found != idle_.end()) {
    const Block block = *found;
    idle_.erase(found);
    return block;
  }
  idle_.reserve(idle_.size() + 1);
  void* memory = nullptr;
  check(cudaMallocHost(&memory, size), "cudaMallocHost");
  return {static_cast<std::byte*>(memory), size};
}

PinnedCopy::PinnedCopy(const SharedContext& context, std::shared_ptr<PinnedBlocks> blocks, const void* from,
                       std::size_t bytes, cudaStream_t stream)
    : arrived_(context), blocks_(std::move(blocks)) {
  const CurrentContext current(*context);
  block_ = blocks_->take(bytes);
  try {
    check(cudaMemcpyAsync(block_.memory, from, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
    arrived_.record(stream);
  } catch (...) {
    // A copy without its event may still be under way.
    cudaStreamSynchronize(stream);
    blocks_->give_back(block_);
    throw;
  }
}

// The block must not be reused before the copy is done. After a fault there is no copy to wait for.
PinnedCopy::~PinnedCopy() {
  try {
    arrived_.wait();
  } catch (const Error&) {
  }
  blocks_->give_back(block_);
}

PinnedRing::~PinnedRing() {
  for (Slot& slot : slots_) {
    try {
      slot.done->wait();
    } catch (const Error&) {  // after a fault there is no copy to wait for
    }
    release_in(context_, [&] { cudaFreeHost(slot.memory); });
  }
}

PinnedRing::Slot& PinnedRing::next() {
  if (slots_.size() < most_slots_) {
    slots_.reserve(most_slots_);
    auto done = std::make_unique<CudaEvent>(context_, work_);
    void* memory = nullptr;
    check(cudaMallocHost(&memory, slot_bytes_), "cudaMallocHost");
    return slots_.emplace_back(Slot{static_cast<std::byte*>(memory), std::move(done)});
  }
  Slot& slot = slots_[turn_++ % most_slots_];
  slot.done->wait();
  return slot;
}

void PinnedRing::send(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  for (std::size_t sent = 0; sent < bytes; sent += slot_bytes_) {
    const std::size_t count = std::min(slot_bytes_, bytes - sent);
    const Slot& slot = next();
    std::memcpy(slot.memory, static_cast<const std::byte*>(from) + sent, count);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + sent, slot.memory, count, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
    try {
      slot.done->record(stream);
    } catch (...) {
      // Without its event the slot must not be used again before the copy is done.
      cudaStreamSynchronize(stream);
      throw;
    }
  }
}

}  // namespace mtadam::cuda
