#pragma once

#include <cstddef>
#include <memory>

#include "engine/device.h"

namespace mtadam {

/// Allocates zeroed host memory, aligned to 64 bytes, for arrays that are read from end to end.
///
/// A step reads dozens of arrays at once, so they should lie on few pages. Large arrays have huge pages (2 MiB) of
/// their own where the system grants them; smaller ones share slabs of huge pages. Freed pieces of a slab are reused.
/// An empty slab returns to the system, except for one of the smallest size.
class HostHeap {
 public:
  HostHeap();
  ~HostHeap();

  /// The memory may be freed on any thread and outlive the heap. Throws Error (OUT_OF_MEMORY).
  std::unique_ptr<Memory> allocate(std::size_t bytes);

 private:
  class Slabs;
  class OwnPages;
  class Piece;

  std::shared_ptr<Slabs> slabs_;
};

}  // namespace mtadam
