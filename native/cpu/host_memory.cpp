#include "cpu/host_memory.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

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

/// Arrays of at least this size always have pages of their own.
constexpr std::size_t kOwnPages = 2 * kHugePage;
constexpr std::size_t kMaxSlab = 16 * kHugePage;

// Arrays that start at the same offset in a page compete for the same cache lines. So arrays and slabs start at one of
// 16 offsets.
constexpr std::size_t kStagger = 3 * kLine;
constexpr std::size_t kStaggers = 16;
static_assert(kStaggers * kStagger < kPage);

[[noreturn]] void out_of_memory(std::size_t bytes) {
  throw Error("OUT_OF_MEMORY", "There is not enough memory on the CPU for " + std::to_string(bytes) + " bytes.");
}

std::size_t whole(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Zeroed pages from the system. On Linux, a page is on the memory node of the thread that first writes it, and pages
/// are huge where the system grants that.
class Pages {
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
    madvise(start_, whole(bytes, kPage), MADV_HUGEPAGE);  // a hint: without it everything works, only slower
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

/// Pages that arrays share.
class Slab {
 public:
  /// Arrays begin at `start`. Throws Error that names `wanted` bytes.
  Slab(std::size_t bytes, std::size_t start, std::size_t wanted) : pages_(bytes, wanted), fresh_(start) {
    free_.emplace(start, bytes - start);
  }

  std::size_t bytes() const { return pages_.bytes(); }
  bool holds(const std::byte* address) const { return address >= pages_.start() && address < pages_.start() + bytes(); }
  bool is_empty() const { return used_.empty(); }

  /// Zeroed memory; null if no free range is long enough.
  std::byte* take(std::size_t length) {
    const auto room = std::find_if(free_.begin(), free_.end(), [&](const auto& r) { return r.second >= length; });
    if (room == free_.end()) return nullptr;
    const std::size_t offset = room->first;
    if (room->second == length) {
      used_.insert(free_.extract(room));
    } else {
      used_.emplace(offset, length);
      auto rest = free_.extract(room);
      rest.key() += length;
      rest.mapped() -= length;
      free_.insert(std::move(rest));
    }
    // Memory that was never given out is zero already.
    if (offset < fresh_) std::memset(pages_.start() + offset, 0, std::min(length, fresh_ - offset));
    fresh_ = std::max(fresh_, offset + length);
    return pages_.start() + offset;
  }

  /// Allocates nothing, so it cannot fail.
  void give_back(const std::byte* address) {
    const auto room = free_.insert(used_.extract(static_cast<std::size_t>(address - pages_.start()))).position;
    join_with_next(room);
    if (room != free_.begin()) join_with_next(std::prev(room));
  }

 private:
  using Ranges = std::map<std::size_t, std::size_t>;  // lengths by offset

  void join_with_next(Ranges::iterator room) {
    const auto next = std::next(room);
    if (next == free_.end() || room->first + room->second != next->first) return;
    room->second += next->second;
    free_.erase(next);
  }

  Pages pages_;
  Ranges used_;
  Ranges free_;        // no two of them touch
  std::size_t fresh_;  // nothing from here on was ever given out
};

}  // namespace

/// The slabs of a heap. Arrays keep them alive.
class HostHeap::Slabs {
 public:
  /// The offset of an array in pages of its own.
  std::size_t next_stagger() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return stagger();
  }

  /// Whether an array of so many bytes gets pages of its own; that depends on the bytes of all arrays.
  bool is_large(std::size_t length) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return length >= std::min(kOwnPages, slab_bytes() / 4);
  }

  std::byte* take(std::size_t length) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::byte* place = nullptr;
    // The oldest slab first, so that arrays allocated one after another lie one after another.
    for (std::size_t k = 0; k < slabs_.size() && place == nullptr; ++k) place = slabs_[k]->take(length);
    if (place == nullptr) {
      slabs_.push_back(std::make_unique<Slab>(slab_bytes(), stagger(), length));
      place = slabs_.back()->take(length);
    }
    return place;
  }

  void give_back(const std::byte* place) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto slab = std::find_if(slabs_.begin(), slabs_.end(), [&](const auto& s) { return s->holds(place); });
    (*slab)->give_back(place);
    // One stays, so that a program that has one buffer at a time does not map pages for each.
    const bool may_stay = slab == slabs_.begin() && (*slab)->bytes() == kHugePage;
    if ((*slab)->is_empty() && !may_stay) slabs_.erase(slab);
  }

  void count(std::size_t bytes) { held_ += bytes; }
  void discount(std::size_t bytes) { held_ -= bytes; }

 private:
  std::size_t stagger() { return starts_++ % kStaggers * kStagger; }
  /// Of a new slab: at most a quarter of the bytes of all arrays, and at least one huge page.
  std::size_t slab_bytes() const { return std::clamp(std::bit_floor(held_ / 4 + 1), kHugePage, kMaxSlab); }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Slab>> slabs_;
  std::size_t starts_ = 0;            // arrays and slabs on pages of their own so far
  std::atomic<std::size_t> held_{0};  // bytes of all arrays
};

class HostHeap::OwnPages final : public Memory {
 public:
  OwnPages(std::shared_ptr<Slabs> slabs, std::size_t offset, std::size_t bytes, std::size_t length)
      : OwnPages(std::move(slabs), offset, bytes, std::make_unique<Pages>(offset + length, bytes)) {}
  ~OwnPages() override { slabs_->discount(size()); }

 private:
  OwnPages(std::shared_ptr<Slabs> slabs, std::size_t offset, std::size_t bytes, std::unique_ptr<Pages> pages)
      : Memory(pages->start() + offset, bytes), slabs_(std::move(slabs)), pages_(std::move(pages)) {
    slabs_->count(bytes);
  }

  std::shared_ptr<Slabs> slabs_;
  std::unique_ptr<Pages> pages_;
};

class HostHeap::Piece final : public Memory {
 public:
  Piece(std::shared_ptr<Slabs> slabs, std::size_t bytes, std::size_t length)
      : Memory(slabs->take(length), bytes), slabs_(std::move(slabs)) {
    slabs_->count(bytes);
  }
  ~Piece() override {
    slabs_->discount(size());
    slabs_->give_back(data());
  }

 private:
  std::shared_ptr<Slabs> slabs_;
};

HostHeap::HostHeap() : slabs_(std::make_shared<Slabs>()) {}
HostHeap::~HostHeap() = default;

std::unique_ptr<Memory> HostHeap::allocate(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) out_of_memory(bytes);
  // At least one byte, since an empty array needs an address, too.
  const std::size_t length = whole(std::max<std::size_t>(bytes, 1), kLine);
  if (!slabs_->is_large(length)) {
    try {
      return std::make_unique<Piece>(slabs_, bytes, length);
    } catch (const Error&) {
      // There may be enough memory for the array where there is not enough for a slab.
    }
  }
  return std::make_unique<OwnPages>(slabs_, slabs_->next_stagger(), bytes, length);
}

}  // namespace mtadam
