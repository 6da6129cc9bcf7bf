#include "test/simt/access.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>

#include "test/simt/cuda/runtime.h"
#include "test/simt/scheduler.h"

extern "C" __attribute__((weak)) int simt_access_hooks;

namespace simt::access {

namespace {

Traffic& all() {
  static Traffic traffic;
  return traffic;
}

std::vector<Watch*>& watches() {
  static auto* const watches = new std::vector<Watch*>;
  return *watches;
}

void add(Traffic& traffic, std::size_t bytes, bool read, bool write) {
  if (read) traffic.read += bytes;
  if (write) traffic.written += bytes;
}

[[noreturn]] void report(Fault fault, const char* what, const void* address, std::size_t bytes, bool write,
                         const void* code) {
  char text[256];
  std::snprintf(text, sizeof text, "%s of %zu bytes at %p: %s", write ? "write" : "read", bytes, address, what);
  Scheduler::active()->fail_here(fault, text, code);
}

/// The thread's own memory: its stack, the arguments, its indices and the pointer to these.
bool own(const Fiber& fiber, const void* address) {
  if (fiber.stack->contains(address)) return true;
  const auto* at = static_cast<const char*>(address);
  const BoundKernel& kernel = Scheduler::active()->kernel();
  const auto* closure = static_cast<const char*>(kernel.closure);
  if (at >= closure && at < closure + kernel.closure_bytes) return true;
  const auto* thread = reinterpret_cast<const char*>(current_thread);
  if (at >= thread && at < thread + sizeof(Thread)) return true;
  return address == static_cast<const void*>(&current_thread);
}

bool check_shared(Fiber& fiber, void* address, std::size_t bytes, bool read, bool write, const void* code) {
  SharedMemory& shared = fiber.home->shared();
  switch (shared.find(address, bytes)) {
    case SharedMemory::Lookup::kNotShared:
      return false;
    case SharedMemory::Lookup::kOutside:
      report(Fault::kAddress, "outside the arrays of shared memory", address, bytes, write, code);
    case SharedMemory::Lookup::kInside:
      break;
  }
  if (read && !shared.was_written(address, bytes)) {
    report(Fault::kUninitialised, "no thread has written to this shared memory", address, bytes, write, code);
  }
  if (write) shared.note_written(address, bytes);
  return true;
}

/// The arena that the address lies in; null if none.
const cuda::Arena* arena_of(const void* address) {
  const cuda::Runtime& runtime = cuda::Runtime::get();
  for (const auto& device : runtime.devices) {
    if (device && device->memory.contains(address)) return &device->memory;
  }
  return runtime.pinned->contains(address) ? runtime.pinned.get() : nullptr;
}

}  // namespace

bool active() { return &simt_access_hooks != nullptr; }

Traffic total() { return all(); }

void reset_total() { all() = Traffic{}; }

Traffic traffic(const void* pointer) {
  const cuda::Arena* arena = arena_of(pointer);
  const cuda::Allocation* allocation = arena ? arena->find(pointer) : nullptr;
  return allocation ? allocation->traffic : Traffic{};
}

const char* refusal(const void* address, std::size_t bytes, bool read, bool write) {
  const cuda::Arena* arena = arena_of(address);
  const int device = cuda::launching_device;
  // A kernel that is run without a device may work on any memory of the test.
  if (!arena) return device < 0 ? nullptr : "the memory is neither the device's nor pinned";
  cuda::Allocation* allocation = arena->find(address);
  if (!allocation) return "nothing was ever allocated there";
  if (!allocation->live) return "the memory has been freed";
  if (!allocation->holds(address, bytes)) return "outside the allocation that it is next to";
  const bool pinned = arena == cuda::Runtime::get().pinned.get();
  if (!pinned && device >= 0 && allocation->device != device) return "the memory is another device's";
  add(allocation->traffic, bytes, read, write);
  add(all(), bytes, read, write);
  for (Watch* watch : watches()) watch->record(address, bytes, read, write);
  return nullptr;
}

void check(void* address, std::size_t bytes, bool read, bool write, bool aligned, const void* code) {
  Fiber& fiber = Scheduler::self();
  if (own(fiber, address)) return;
  if (aligned && reinterpret_cast<std::uintptr_t>(address) % bytes != 0) {
    report(Fault::kAlignment, "misaligned", address, bytes, write, code);
  }
  if (check_shared(fiber, address, bytes, read, write, code)) return;
  if (const char* const why = refusal(address, bytes, read, write)) {
    report(Fault::kAddress, why, address, bytes, write, code);
  }
}

// ---- Watch ----

Watch::Watch(const void* begin, std::size_t bytes)
    : begin_(static_cast<const char*>(begin)), reads_(bytes), writes_(bytes), by_width_{} {
  watches().push_back(this);
}

Watch::~Watch() { std::erase(watches(), this); }

void Watch::reset() {
  std::fill(reads_.begin(), reads_.end(), std::uint8_t{0});
  std::fill(writes_.begin(), writes_.end(), std::uint8_t{0});
  traffic_ = Traffic{};
  by_width_ = {};
}

Traffic Watch::touched() const {
  const auto touched = [](const std::vector<std::uint8_t>& counts) {
    const auto untouched = std::count(counts.begin(), counts.end(), std::uint8_t{0});
    return static_cast<std::uint64_t>(counts.size()) - static_cast<std::uint64_t>(untouched);
  };
  return {touched(reads_), touched(writes_)};
}

Traffic Watch::in_accesses_of(std::size_t width) const {
  return by_width_.at(static_cast<std::size_t>(std::countr_zero(width)));
}

void Watch::record(const void* address, std::size_t bytes, bool read, bool write) {
  const char* first = std::max(static_cast<const char*>(address), begin_);
  const char* last = std::min(static_cast<const char*>(address) + bytes, begin_ + reads_.size());
  if (first >= last) return;
  const auto inside = static_cast<std::size_t>(last - first);
  add(traffic_, inside, read, write);
  if (std::has_single_bit(bytes) && bytes <= 16) {
    add(by_width_[static_cast<std::size_t>(std::countr_zero(bytes))], inside, read, write);
  }
  for (auto k = static_cast<std::size_t>(first - begin_); k < static_cast<std::size_t>(last - begin_); ++k) {
    if (read && reads_[k] < 255) ++reads_[k];
    if (write && writes_[k] < 255) ++writes_[k];
  }
}

Watch::Times Watch::times(const std::vector<std::uint8_t>& counts) {
  if (counts.empty()) return {};
  const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
  return {*least, *most};
}

}  // namespace simt::access
