#pragma once

#include <cstddef>
#include <memory>

#include "engine/device.h"

namespace mtadam {

/// Zeroed memory of the host, aligned to 64 bytes, for arrays that are walked from end to end.
///
/// A step walks dozens of them at once, so they should lie on few pages. Large ones have pages of 2 MiB of
/// their own where the system agrees; those that are too small for that share slabs of them. A freed piece of
/// a slab is given out again; a slab without arrays goes back to the system, but for one of the smallest size.
class HostHeap {
 public:
  HostHeap();
  ~HostHeap();

  /// May be freed by any thread, and outlive the heap. Throws Error (OUT_OF_MEMORY).
  std::unique_ptr<Memory> allocate(std::size_t bytes);

 private:
  class Slabs;
  class OwnPages;
  class Piece;

  std::shared_ptr<Slabs> slabs_;
};

}  // namespace mtadam
