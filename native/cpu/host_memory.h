#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "engine/device.h"

namespace mtadam {

/// Zeroed memory of the host, aligned to 64 bytes, for arrays that are walked from end to end.
///
/// A step walks dozens of them at once, so what counts is how few pages they lie on. Large ones have pages of 2 MiB of
/// their own where the system agrees; those that are too small for that share slabs of such pages. A slab goes back to
/// the system with the last array on it. A new one is at most a quarter of all that is held, or a single page.
class HostHeap {
 public:
  HostHeap();
  ~HostHeap();

  /// May be freed by any thread, and outlive the heap. Throws Error (OUT_OF_MEMORY).
  std::unique_ptr<Memory> allocate(std::size_t bytes);

 private:
  class Pages;
  class Piece;

  std::size_t next_stagger();

  std::mutex mutex_;
  std::shared_ptr<Pages> slab_;
  std::size_t used_ = 0;                                  // bytes of the slab
  std::size_t starts_ = 0;                                // pages begun so far
  const std::shared_ptr<std::atomic<std::size_t>> held_;  // bytes of those that are left
};

}  // namespace mtadam
