#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "test/simt/error.h"

namespace simt {

/// The shared arrays of one resident block. Used on fibers, so it never allocates after its construction.
class SharedMemory {
 public:
  /// The size that a block has by default; nvcc rejects larger static arrays.
  static constexpr std::size_t kLimit = 48 << 10;
  static constexpr std::size_t kRedZone = 256;
  static constexpr unsigned kMaxArrays = 32;

  struct Array {
    const void* key = nullptr;
    char* data = nullptr;
    std::size_t bytes = 0;
    Where where;
  };

  enum class Lookup { kInside, kOutside, kNotShared };

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// Null beyond the limit.
  void* array(const void* key, std::size_t bytes, std::size_t alignment, const Where& where);
  /// An array with a red zone that was written to; null if there is none. With the address sanitizer there is never
  /// one, since that sees the access itself.
  const Array* overrun() const;

  Lookup find(const void* address, std::size_t bytes) const;
  void note_written(const void* address, std::size_t bytes);
  bool was_written(const void* address, std::size_t bytes) const;

 private:
  static constexpr std::size_t kArena = kLimit + (kMaxArrays + 1) * (kRedZone + 64);

  char* arena_;
  std::uint8_t* written_;  // one per byte of the arena
  std::size_t used_ = kRedZone;
  std::size_t budget_ = kLimit;
  std::array<Array, kMaxArrays> arrays_;
  unsigned count_ = 0;
};

}  // namespace simt
