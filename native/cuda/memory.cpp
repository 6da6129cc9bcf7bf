#include "cuda/memory.h"

#include <cstring>

#include "cuda/errors.h"

namespace mtadam::cuda {

CurrentDevice::CurrentDevice(int device) : device_(device) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != device_) check(cudaSetDevice(device_), "cudaSetDevice");
}

CurrentDevice::~CurrentDevice() {
  if (before_ != device_) cudaSetDevice(before_);
}

namespace {

class DeviceMemory final : public Memory {
 public:
  DeviceMemory(int device, std::byte* data, std::size_t size) : Memory(data, size), device_(device) {}

  // Waits for whatever still uses it. Nothing can be done about an error here: after a fault the context is gone, and
  // at the end of the process the driver may be.
  ~DeviceMemory() override {
    int before = 0;
    if (cudaGetDevice(&before) != cudaSuccess) return;
    cudaSetDevice(device_);
    cudaDeviceSynchronize();
    cudaFree(data());
    cudaSetDevice(before);
  }

 private:
  int device_;
};

}  // namespace

std::unique_ptr<Memory> allocate_device(int device, std::size_t bytes) {
  const CurrentDevice current(device);
  void* data = nullptr;
  // Never of no bytes: an address is wanted even for nothing.
  check(cudaMalloc(&data, bytes == 0 ? 1 : bytes), "cudaMalloc");
  auto memory = std::make_unique<DeviceMemory>(device, static_cast<std::byte*>(data), bytes);
  check(cudaMemsetAsync(data, 0, bytes, nullptr), "cudaMemsetAsync");
  // A stream that does not order itself after the default one must find it zeroed, too.
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  return memory;
}

PinnedRing::~PinnedRing() {
  for (Slot& slot : slots_) {
    if (slot.used) cudaEventSynchronize(slot.done);
    if (slot.done != nullptr) cudaEventDestroy(slot.done);
    if (slot.memory != nullptr) cudaFreeHost(slot.memory);
  }
}

PinnedRing::Slot& PinnedRing::next() {
  if (slots_.size() < kSlots) {
    // In place before it is filled: what was made by then is freed with the ring.
    Slot& slot = slots_.emplace_back();
    void* memory = nullptr;
    check(cudaMallocHost(&memory, kSlotBytes), "cudaMallocHost");
    slot.memory = static_cast<std::byte*>(memory);
    check(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return slot;
  }
  Slot& slot = slots_[turn_++ % kSlots];
  if (slot.used) check(cudaEventSynchronize(slot.done), "cudaEventSynchronize");
  return slot;
}

void PinnedRing::send(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  Slot& slot = next();
  std::memcpy(slot.memory, from, bytes);
  check(cudaMemcpyAsync(to, slot.memory, bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  check(cudaEventRecord(slot.done, stream), "cudaEventRecord");
  slot.used = true;
}

}  // namespace mtadam::cuda
