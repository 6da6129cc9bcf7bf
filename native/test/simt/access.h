#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "test/simt/cuda/arena.h"

// The accesses of kernels, as the access checker counts them. It sees each load and store of PTX (native/test/ptx), and
// of code that was compiled with -fsanitize=thread and linked with mtadam_simt_access instead of the thread sanitizer.
// Otherwise all counts are 0.

namespace simt::access {

using cuda::Traffic;

/// Whether this program has the access checker.
bool active();

/// Bytes of global memory that all kernels accessed since the last reset.
Traffic total();
/// The same for the allocation with this address, since it was made.
Traffic traffic(const void* pointer);
void reset_total();

/// Counts what kernels do to a range of global memory while it exists.
class Watch {
 public:
  Watch(const void* begin, std::size_t bytes);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// How often single bytes were read or written; all equally often where least and most are equal.
  struct Times {
    unsigned least = 0;
    unsigned most = 0;
    bool operator==(const Times&) const = default;
  };

  Traffic traffic() const { return traffic_; }
  /// Each byte once, however often it was accessed: what a cache would fetch and write back.
  Traffic touched() const;
  Times reads() const { return times(reads_); }
  Times writes() const { return times(writes_); }
  /// The share of the traffic in accesses of this many bytes: 1, 2, 4, 8 or 16.
  Traffic in_accesses_of(std::size_t width) const;

  void reset();
  void record(const void* address, std::size_t bytes, bool read, bool write);

 private:
  static Times times(const std::vector<std::uint8_t>& counts);

  const char* begin_;
  std::vector<std::uint8_t> reads_;  // one per byte, up to 255
  std::vector<std::uint8_t> writes_;
  Traffic traffic_;
  std::array<Traffic, 5> by_width_;
};

/// Counts a kernel's access to global memory and returns null. If no kernel on this device may make it, returns the
/// reason and counts nothing.
const char* refusal(const void* address, std::size_t bytes, bool read, bool write);

/// One access by a kernel, on its fiber; from the hooks.
void check(void* address, std::size_t bytes, bool read, bool write, bool aligned, const void* code);

}  // namespace simt::access
