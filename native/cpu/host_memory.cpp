#include "cpu/host_memory.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#if defined(__linux__)
#  include <sys/mman.h>
#elif defined(_WIN32)
#  include <malloc.h>
#endif

#include "engine/errors.h"

namespace mtadam {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// From here on an array has pages of its own.
constexpr std::size_t kOwnPages = 2 * kHugePage;
constexpr std::size_t kMaxSlab = 16 * kHugePage;

// Arrays that all began at the same place of a page would compete for the same lines of the caches. So they, and slabs,
// begin at one of sixteen places.
constexpr std::size_t kStagger = 3 * kLine;
constexpr std::size_t kStaggers = 16;
static_assert(kStaggers * kStagger < kPage);

[[noreturn]] void out_of_memory(std::size_t bytes) {
  throw Error("OUT_OF_MEMORY", "There is not enough memory on the CPU for " + std::to_string(bytes) + " bytes.");
}

std::size_t whole(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

/// From the system and back to it. Zeroed; on Linux, pages arrive on the memory node of the thread that first writes
/// them, and 2 MiB at a time where the system agrees.
class HostHeap::Pages {
 public:
  /// Throws Error that names `wanted` bytes.
  Pages(std::size_t bytes, std::size_t wanted) : bytes_(bytes) {
    const bool huge = bytes >= kHugePage;
#if defined(__linux__)
    mapped_ = whole(bytes, kPage) + (huge ? kHugePage : 0);
    base_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) out_of_memory(wanted);
    start_ = static_cast<std::byte*>(base_);
    if (!huge) return;
    start_ += whole(reinterpret_cast<std::uintptr_t>(start_), kHugePage) - reinterpret_cast<std::uintptr_t>(start_);
    madvise(start_, whole(bytes, kPage), MADV_HUGEPAGE);  // a wish: without it all is well, only slower
#else
    const std::size_t rounded = whole(bytes, kPage);
#  if defined(_WIN32)
    base_ = _aligned_malloc(rounded, kPage);
#  else
    base_ = std::aligned_alloc(kPage, rounded);
#  endif
    if (base_ == nullptr) out_of_memory(wanted);
    std::memset(base_, 0, rounded);
    start_ = static_cast<std::byte*>(base_);
#endif
  }

  ~Pages() {
#if defined(__linux__)
    munmap(base_, mapped_);
#elif defined(_WIN32)
    _aligned_free(base_);
#else
    std::free(base_);
#endif
  }

  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* start() const { return start_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* base_ = nullptr;
  std::byte* start_ = nullptr;
  std::size_t bytes_;
#if defined(__linux__)
  std::size_t mapped_ = 0;
#endif
};

class HostHeap::Piece final : public Memory {
 public:
  Piece(std::shared_ptr<Pages> pages, std::size_t offset, std::size_t bytes,
        std::shared_ptr<std::atomic<std::size_t>> held)
      : Memory(pages->start() + offset, bytes), pages_(std::move(pages)), held_(std::move(held)) {
    *held_ += bytes;
  }
  ~Piece() override { *held_ -= size(); }

 private:
  std::shared_ptr<Pages> pages_;
  std::shared_ptr<std::atomic<std::size_t>> held_;
};

HostHeap::HostHeap() : held_(std::make_shared<std::atomic<std::size_t>>(0)) {}
HostHeap::~HostHeap() = default;

std::size_t HostHeap::next_stagger() { return starts_++ % kStaggers * kStagger; }

std::unique_ptr<Memory> HostHeap::allocate(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) out_of_memory(bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  // Never of no bytes: an address is wanted even for nothing.
  const std::size_t length = whole(std::max<std::size_t>(bytes, 1), kLine);
  const std::size_t slab = std::clamp(std::bit_floor(*held_ / 4 + 1), kHugePage, kMaxSlab);
  std::shared_ptr<Pages> pages;
  std::size_t offset = 0;
  if (length >= std::min(kOwnPages, slab / 4)) {
    offset = next_stagger();
    pages = std::make_shared<Pages>(offset + length, bytes);
  } else {
    if (slab_ == nullptr || slab_->bytes() - used_ < length) {
      slab_ = std::make_shared<Pages>(slab, bytes);
      used_ = next_stagger();
    }
    // Right behind the last: then the machine's prefetching, when it runs past one array, has begun with the next.
    offset = used_;
    used_ += length;
    pages = slab_;
  }
  return std::make_unique<Piece>(std::move(pages), offset, bytes, held_);
}

}  // namespace mtadam
