#include "cuda/cuda_device.h"

#include "cuda/cuda.h"
#include "cuda/driver.h"
#include "cuda/errors.h"
#include "cuda/kernels.h"
#include "cuda/stream.h"

namespace mtadam::cuda {
namespace {

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

// Small blocks come often and several at a time; large ones seldom.
constexpr std::size_t kSmallSlotBytes = std::size_t{64} << 10;
constexpr std::size_t kSmallSlots = 16;
constexpr std::size_t kLargeSlotBytes = std::size_t{4} << 20;
constexpr std::size_t kLargeSlots = 2;

// Of a step in one launch: chunks by which norms run ahead, for each multiprocessor. As many as are at work there at
// once keep blocks from waiting; fewer leave more room in the second-level cache. To be measured (docs/speed/notes.md).
constexpr std::uint64_t kLeadPerMultiprocessor = 2;

// Less does not hold the gradients of so many chunks until they are read again. CMakeLists.txt relies on it: devices
// of compute capability 7.5 and 8.6 have at most 6 MB.
constexpr int kLeastCacheBytes = 32 << 20;

}  // namespace

CudaDevice::CudaDevice(int index, bool one_pass)
    : index_(index), small_(kSmallSlotBytes, kSmallSlots), large_(kLargeSlotBytes, kLargeSlots) {
  check_index(index);
  const CurrentDevice current(index_);
  // The first call of all, which makes the device's context: what speaks against it is said now.
  check(cudaFree(nullptr), "cudaFree");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index_), "cudaGetDeviceProperties");
  name_ = properties.name;
  multiprocessors_ = static_cast<std::uint32_t>(properties.multiProcessorCount);
  one_pass_ = one_pass && properties.l2CacheSize >= kLeastCacheBytes;
  pointer_check_ = std::make_unique<PointerCheck>(index_);
  zeroing_ = std::make_unique<OwnStream>();
}

void CudaDevice::check_stream(Stream stream) const {
  const CurrentDevice current(index_);
  check_stream_of(index_, native(stream));
}

void CudaDevice::check_range(const void* address, std::size_t bytes) const {
  const CurrentDevice current(index_);
  (*pointer_check_)(address, bytes);
}

std::unique_ptr<Memory> CudaDevice::allocate(std::size_t bytes) {
  return allocate_device(index_, bytes, zeroing_->get());
}

void CudaDevice::write(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  PinnedRing& ring = bytes <= kSmallSlotBytes ? small_ : large_;
  ring.send(to, from, bytes, native(stream));
}

void CudaDevice::read(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, native(stream)), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

std::unique_ptr<HostCopy> CudaDevice::read_later(const void* from, std::size_t bytes, Stream stream) {
  return std::make_unique<PinnedCopy>(index_, read_, from, bytes, native(stream));
}

void CudaDevice::fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentDevice current(index_);
  launch_fill(to, pattern, element, bytes / element, native(stream));
}

std::unique_ptr<Event> CudaDevice::make_event() { return std::make_unique<CudaEvent>(index_, live_); }

std::unique_ptr<Recording> CudaDevice::record(Stream stream, const std::function<void(Stream)>& calls) {
  return std::make_unique<CudaRecording>(index_, native(stream), calls);
}

void CudaDevice::norms(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_norms(tables, call, native(stream));
}

void CudaDevice::cosines(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_cosines(tables, call, native(stream));
}

void CudaDevice::moments(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_moments(tables, call, native(stream));
}

void CudaDevice::update(const Tables& tables, Stream stream) {
  const CurrentDevice current(index_);
  launch_update(tables, nullptr, native(stream));
}

void CudaDevice::update(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_update(tables, &call, native(stream));
}

void CudaDevice::zero(const Tables& tables, const Call& call, Stream stream) {
  const CurrentDevice current(index_);
  launch_zero(tables, call, native(stream));
}

void CudaDevice::add(float* target, const float* source, std::uint64_t count, Stream stream) {
  if (count == 0) return;
  const CurrentDevice current(index_);
  launch_add(target, source, count, native(stream));
}

bool CudaDevice::takes_in_one_pass(const Tables& tables) const {
  return tables.one_pass.tickets != nullptr && has_one_pass(tables);
}

bool CudaDevice::step_in_one_pass(const Tables& tables, const Call& call, Stream stream) {
  if (!takes_in_one_pass(tables)) return false;
  const CurrentDevice current(index_);
  launch_one_pass(tables, call, multiprocessors_, native(stream));
  return true;
}

std::uint64_t CudaDevice::norm_lead() const { return one_pass_ ? kLeadPerMultiprocessor * multiprocessors_ : 0; }

std::unique_ptr<Event> CudaDevice::all_done() {
  const CurrentDevice current(index_);
  for (const cudaEvent_t event : *live_) check(cudaStreamWaitEvent(nullptr, event, 0), "cudaStreamWaitEvent");
  small_.hold(nullptr);
  large_.hold(nullptr);
  auto event = std::make_unique<CudaEvent>(index_);
  event->record(nullptr);
  return event;
}

void CudaDevice::load(const Tables& tables) {
  const CurrentDevice current(index_);
  load_norms();
  if (tables.cosines) load_cosines();
  load_update(tables);
  if (takes_in_one_pass(tables)) load_one_pass(tables);
}

std::shared_ptr<Device> open(int index, bool one_pass) { return std::make_shared<CudaDevice>(index, one_pass); }

}  // namespace mtadam::cuda
