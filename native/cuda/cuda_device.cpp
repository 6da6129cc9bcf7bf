#include "cuda/cuda_device.h"

#include <cstring>

#include "cuda/context.h"
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

// Throws Error with the reason if the device cannot be used; only then is a context made.
SharedContext open_context(int index) {
  check_index(index);
  return std::make_shared<Context>(index);
}

// Every block looks at all tensors of its chunk's layer.
constexpr std::uint32_t kLargestLayer = 256;

}  // namespace

CudaDevice::CudaDevice(int index, std::optional<std::uint64_t> cache_bytes)
    : context_(open_context(index)),
      pointer_check_(context_),
      own_(context_),
      allocator_(context_, work_),
      small_(context_, work_, kSmallSlotBytes, kSmallSlots),
      large_(context_, work_, kLargeSlotBytes, kLargeSlots),
      filled_(make_event()) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  name_ = properties.name;
  multiprocessors_ = static_cast<std::uint32_t>(properties.multiProcessorCount);
  cache_bytes_ = cache_bytes.value_or(static_cast<std::uint64_t>(properties.l2CacheSize));
}

Stream CudaDevice::default_stream() const {
  const CurrentContext current(*context_);
  return default_is_captured() ? own_.get() : nullptr;
}

void CudaDevice::check_stream(Stream stream) const {
  const CurrentContext current(*context_);
  check_stream_of(context_->device(), native(stream));
}

bool CudaDevice::is_capturing(Stream stream) const {
  const CurrentContext current(*context_);
  return cuda::is_capturing(native(stream));
}

void CudaDevice::check_range(const void* address, std::size_t bytes) const {
  const CurrentContext current(*context_);
  pointer_check_(address, bytes);
}

std::unique_ptr<Memory> CudaDevice::allocate(std::size_t bytes) { return allocator_.allocate(bytes); }

std::unique_ptr<Memory> CudaDevice::open_memory(const std::byte* handle, std::size_t bytes) const {
  cudaIpcMemHandle_t copy{};
  static_assert(sizeof copy == kHandleBytes);
  std::memcpy(&copy, handle, kHandleBytes);
  std::unique_ptr<Memory> memory = open_allocation(context_, copy, bytes);
  check_range(memory->data(), bytes);
  return memory;
}

std::unique_ptr<Memory> open_memory(Device& device, const std::byte* handle, std::size_t bytes) {
  const auto* const own = dynamic_cast<CudaDevice*>(&device);
  if (own == nullptr) throw Error("OPTION", "Memory of another process can be opened on a CUDA device only.");
  return own->open_memory(handle, bytes);
}

void CudaDevice::write(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentContext current(*context_);
  PinnedRing& ring = bytes <= kSmallSlotBytes ? small_ : large_;
  ring.send(to, from, bytes, native(stream));
}

void CudaDevice::read(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentContext current(*context_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, native(stream)), "cudaMemcpyAsync");
  check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

std::unique_ptr<HostCopy> CudaDevice::read_later(const void* from, std::size_t bytes, Stream stream) {
  return std::make_unique<PinnedCopy>(context_, read_, from, bytes, native(stream));
}

void CudaDevice::fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentContext current(*context_);
  filled_->make_wait(stream);
  launch_fill(to, pattern, element, bytes / element, native(stream));
  filled_->record(stream);
}

std::unique_ptr<Event> CudaDevice::make_event() { return std::make_unique<CudaEvent>(context_, work_); }

std::unique_ptr<Graph> CudaDevice::capture(Stream stream, const std::function<void(Stream)>& calls) {
  return std::make_unique<CudaGraph>(context_, native(stream), calls);
}

void CudaDevice::norms(const Tables& tables, const Call& call, Stream stream) {
  const CurrentContext current(*context_);
  launch_norms(tables, call, native(stream));
}

void CudaDevice::cosines(const Tables& tables, const Call& call, Stream stream) {
  const CurrentContext current(*context_);
  launch_cosines(tables, call, native(stream));
}

void CudaDevice::moments(const Tables& tables, const Call& call, Stream stream) {
  const CurrentContext current(*context_);
  launch_moments(tables, call, multiprocessors_, native(stream));
}

void CudaDevice::update(const Tables& tables, Stream stream) {
  const CurrentContext current(*context_);
  launch_update(tables, nullptr, multiprocessors_, native(stream));
}

void CudaDevice::update(const Tables& tables, const Call& call, Stream stream) {
  const CurrentContext current(*context_);
  launch_update(tables, &call, multiprocessors_, native(stream));
}

// The first gradients of a term are better read twice: one block would take the step of a whole layer, or add up its
// squares. Where the network is one unit, reading once takes one launch more than reading twice, and so it must save
// reads that the second-level cache does not serve.
bool CudaDevice::reads_once(const Tables& tables, const OnePass& pass) const {
  if (!has_lagged(tables) || !pass.known || pass.largest_layer > kLargestLayer) return false;
  return !tables.network || pass.gradient_bytes > cache_bytes_;
}

bool CudaDevice::step_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) {
  if (!reads_once(tables, pass)) return false;
  const CurrentContext current(*context_);
  launch_lagged_step(tables, call, native(pass.stream), pass.begun);
  return true;
}

bool CudaDevice::accumulate_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) {
  if (!reads_once(tables, pass)) return false;
  const CurrentContext current(*context_);
  launch_lagged_term(tables, call, native(pass.stream), pass.begun);
  return true;
}

void CudaDevice::zero(const Tables& tables, const Call& call, Stream stream) {
  const CurrentContext current(*context_);
  launch_zero(tables, call, native(stream));
}

void CudaDevice::add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) {
  if (count == 0) return;
  const CurrentContext current(*context_);
  launch_add(target, source, count, type, native(stream));
}

void CudaDevice::make_current(const std::function<void()>& calls) const {
  const CurrentContext current(*context_);
  calls();
}

void CudaDevice::copy(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  const CurrentContext current(*context_);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "cudaMemcpyAsync");
}

void CudaDevice::narrow(std::uint16_t* to, const float* from, std::uint64_t count, Stream stream) {
  if (count == 0) return;
  const CurrentContext current(*context_);
  launch_narrow(to, from, count, native(stream));
}

void CudaDevice::widen(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type, Stream stream) {
  if (count == 0) return;
  const CurrentContext current(*context_);
  launch_widen(to, from, count, type, native(stream));
}

std::unique_ptr<Event> CudaDevice::all_done() {
  const CurrentContext current(*context_);
  const cudaStream_t stream = native(default_stream());
  work_->make_wait(stream);
  auto event = std::make_unique<CudaEvent>(context_);
  event->record(stream);
  return event;
}

void CudaDevice::load(const Tables& tables) {
  const CurrentContext current(*context_);
  load_norms(tables);
  if (tables.cosines) load_cosines(tables);
  load_update(tables);
  if (has_lagged(tables)) load_lagged(tables);
}

std::shared_ptr<Device> open(int index) { return std::make_shared<CudaDevice>(index); }

}  // namespace mtadam::cuda
