#include "test/simt/shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "test/simt/sanitizers.h"

namespace simt {

namespace {

constexpr int kUninitialised = 0xff;  // a NaN in every floating-point type
constexpr unsigned char kRedZoneByte = 0xa5;

bool intact(const char* begin) {
  for (std::size_t k = 0; k < SharedMemory::kRedZone; ++k) {
    if (static_cast<unsigned char>(begin[k]) != kRedZoneByte) return false;
  }
  return true;
}

}  // namespace

// Fresh memory of the heap for each block, so that the thread sanitizer does not relate its accesses to those of an
// earlier block at the same address.
SharedMemory::SharedMemory()
    : arena_(static_cast<char*>(std::aligned_alloc(256, (kArena + 255) / 256 * 256))),
      written_(static_cast<std::uint8_t*>(std::calloc(kArena, 1))) {
  if (!arena_ || !written_) throw std::bad_alloc();
  std::memset(arena_, kRedZoneByte, kRedZone);
  poison(arena_, kArena);
}

SharedMemory::~SharedMemory() {
  unpoison(arena_, kArena);
  std::free(arena_);
  std::free(written_);
}

void* SharedMemory::array(const void* key, std::size_t bytes, std::size_t alignment, const Where& where) {
  for (unsigned k = 0; k < count_; ++k) {
    if (arrays_[k].key == key) return arrays_[k].data;
  }
  const std::size_t step = std::max<std::size_t>(alignment, 16);
  const std::size_t charged = (bytes + step - 1) / step * step;
  if (charged > budget_ || count_ == kMaxArrays) return nullptr;
  budget_ -= charged;

  const std::size_t begin = (used_ + step - 1) / step * step;
  used_ = begin + bytes + kRedZone;
  char* data = arena_ + begin;
  const Unwatched unwatched;
  unpoison(data, bytes + kRedZone);
  std::memset(data, kUninitialised, bytes);
  std::memset(data + bytes, kRedZoneByte, kRedZone);
  poison(data + bytes, kRedZone);
  arrays_[count_++] = {key, data, bytes, where};
  return data;
}

const SharedMemory::Array* SharedMemory::overrun() const {
  if (under_address_sanitizer()) return nullptr;
  for (unsigned k = 0; k < count_; ++k) {
    if (!intact(arrays_[k].data + arrays_[k].bytes)) return &arrays_[k];
  }
  return count_ > 0 && !intact(arena_) ? &arrays_[0] : nullptr;
}

SharedMemory::Lookup SharedMemory::find(const void* address, std::size_t bytes) const {
  const char* begin = static_cast<const char*>(address);
  if (begin < arena_ || begin >= arena_ + kArena) return Lookup::kNotShared;
  for (unsigned k = 0; k < count_; ++k) {
    const Array& array = arrays_[k];
    if (begin >= array.data && begin + bytes <= array.data + array.bytes) return Lookup::kInside;
  }
  return Lookup::kOutside;
}

void SharedMemory::note_written(const void* address, std::size_t bytes) {
  const std::size_t begin = static_cast<std::size_t>(static_cast<const char*>(address) - arena_);
  for (std::size_t k = 0; k < bytes; ++k) written_[begin + k] = 1;
}

bool SharedMemory::was_written(const void* address, std::size_t bytes) const {
  const std::size_t begin = static_cast<std::size_t>(static_cast<const char*>(address) - arena_);
  for (std::size_t k = 0; k < bytes; ++k) {
    if (!written_[begin + k]) return false;
  }
  return true;
}

}  // namespace simt
