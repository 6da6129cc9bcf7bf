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

}  // namespace

std::unique_ptr<Memory> allocate_device(const SharedContext& context, std::size_t bytes, cudaStream_t zeroing) {
  const CurrentContext current(*context);
  void* data = nullptr;
  // At least one byte, since empty memory needs an address, too.
  check(cudaMalloc(&data, bytes == 0 ? 1 : bytes), "cudaMalloc");
  auto memory = std::make_unique<DeviceMemory>(context, static_cast<std::byte*>(data), bytes);
  check(cudaMemsetAsync(data, 0, bytes, zeroing), "cudaMemsetAsync");
  // So that the memory is zeroed for every stream. The stream carries no other work.
  check(cudaStreamSynchronize(zeroing), "cudaStreamSynchronize");
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
  release_in(context_, [&] {
    for (Slot& slot : slots_) {
      if (slot.used) cudaEventSynchronize(slot.done);
      cudaEventDestroy(slot.done);
      cudaFreeHost(slot.memory);
    }
  });
}

PinnedRing::Slot& PinnedRing::next() {
  if (slots_.size() < most_slots_) {
    Slot slot;
    void* memory = nullptr;
    check(cudaMallocHost(&memory, slot_bytes_), "cudaMallocHost");
    slot.memory = static_cast<std::byte*>(memory);
    const cudaError_t error = cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming | cudaEventBlockingSync);
    if (error != cudaSuccess) cudaFreeHost(memory);
    check(error, "cudaEventCreateWithFlags");
    return slots_.emplace_back(slot);
  }
  Slot& slot = slots_[turn_++ % most_slots_];
  if (slot.used) check(cudaEventSynchronize(slot.done), "cudaEventSynchronize");
  return slot;
}

void PinnedRing::send(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  for (std::size_t sent = 0; sent < bytes; sent += slot_bytes_) {
    const std::size_t count = std::min(slot_bytes_, bytes - sent);
    Slot& slot = next();
    std::memcpy(slot.memory, static_cast<const std::byte*>(from) + sent, count);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + sent, slot.memory, count, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
    const cudaError_t recorded = cudaEventRecord(slot.done, stream);
    // Without its event the slot must not be used again before the copy is done.
    if (recorded != cudaSuccess) cudaStreamSynchronize(stream);
    check(recorded, "cudaEventRecord");
    slot.used = true;
  }
}

void PinnedRing::make_wait(cudaStream_t stream) const {
  for (const Slot& slot : slots_) {
    if (slot.used) check(cudaStreamWaitEvent(stream, slot.done, 0), "cudaStreamWaitEvent");
  }
}

}  // namespace mtadam::cuda
