#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace simt::cuda {

/// Bytes that kernels moved, each access counted with its width; an atomic counts as a read and a write. Only the
/// access checker counts.
struct Traffic {
  std::uint64_t read = 0;
  std::uint64_t written = 0;
};

struct Allocation {
  char* data;
  std::size_t bytes;
  int device;  ///< of pinned memory, the one that was current
  bool live = true;
  Traffic traffic = {};
  std::size_t piece = 0;   ///< of memory that the driver knows in pieces: bytes of each
  bool mapped = false;     ///< the pieces are handles that cuMemMap put side by side
  bool foreign = false;    ///< of a context beside the device's primary one
  bool pooled = false;     ///< from cudaMallocAsync
  bool freeing = false;    ///< cudaFreeAsync has been called, and its stream has not come to it
  std::size_t shared = 0;  ///< bytes of a file in the allocation, from its first whole page on

  bool holds(const void* address, std::size_t count) const {
    const char* begin = static_cast<const char*>(address);
    return begin >= data && count <= bytes && begin - data <= static_cast<std::ptrdiff_t>(bytes - count);
  }
};

/// A range of addresses of its own for one kind of memory. What is allocated starts as NaN bytes between red zones;
/// freed memory becomes NaN again, and its addresses are reused only after much else has been freed (keep_freed).
class Arena {
 public:
  static constexpr std::size_t kGranule = 256;  ///< every allocation starts at a multiple of this
  static constexpr std::size_t kAddresses = std::size_t{64} << 30;

  Arena();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Null if no addresses are left. The memory must be shown.
  Allocation* allocate(std::size_t bytes, int device);
  void free(Allocation& allocation);
  /// How many freed bytes are kept from reuse.
  void keep_freed(std::size_t bytes) { most_quarantined_ = bytes; }
  /// Frees it and never reuses its addresses, since code that still has them may free them much later.
  void retire(Allocation& allocation);

  bool contains(const void* address) const {
    return reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(base_) < kAddresses;
  }
  /// The allocation that the address lies in or, in its red zones and until its addresses may be reused, lay in. Null
  /// if none.
  Allocation* find(const void* address) const {
    const std::size_t granule = static_cast<std::size_t>(static_cast<const char*>(address) - base_) / kGranule;
    const std::uint32_t owner = owners_[granule];
    return owner == 0 ? nullptr : allocations_[owner - 1].get();
  }
  /// Whether all of the range lies in one live allocation.
  bool live(const void* address, std::size_t bytes) const;
  const std::vector<Allocation*>& live_allocations() const { return live_; }
  std::size_t live_bytes() const { return live_bytes_; }

  /// A live allocation with a red zone that was written to; null if there is none. With the address sanitizer there is
  /// never one, since that sees the access itself.
  const Allocation* overrun() const;

  /// Shown memory can be read and written; shows and hides nest.
  void show();
  void hide();

 private:
  struct Range {
    std::size_t begin;
    std::size_t bytes;
  };

  Range take(std::size_t bytes);
  Range end(Allocation& allocation);
  void recycle();
  void drop_pages(Range range);
  void own(Range range, std::uint32_t owner);
  void give_back(Range range);

  char* base_;
  std::uint32_t* owners_;  ///< per granule: the allocation's index plus one
  std::size_t used_ = 0;   ///< addresses ever handed out
  int shown_ = 0;
  std::size_t live_bytes_ = 0;
  std::vector<std::unique_ptr<Allocation>> allocations_;
  std::vector<std::uint32_t> unused_;  ///< owners whose addresses may be reused
  std::vector<Allocation*> live_;
  std::deque<Range> quarantine_;
  std::size_t quarantined_ = 0;
  std::size_t most_quarantined_ = std::size_t{256} << 20;
  std::map<std::size_t, std::size_t> free_;  ///< begin to size
};

}  // namespace simt::cuda
