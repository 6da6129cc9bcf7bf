#include "cpu/host_memory.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#if defined(__linux__)
#  include <sys/mman.h>
#elif defined(_WIN32)
#  include <malloc.h>
#endif

#include "engine/errors.h"

namespace mtadam {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

[[noreturn]] void out_of_memory(std::size_t bytes) {
  throw Error("OUT_OF_MEMORY", "There is not enough memory on the CPU for " + std::to_string(bytes) + " bytes.");
}

std::size_t whole(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

#if defined(__linux__)

// From the system and back to it: pages arrive zeroed, on the memory node of the thread that first writes them, and
// 2 MiB at a time where the system agrees (a step walks dozens of streams, each in need of its own page entry).
class HostMemory final : public Memory {
 public:
  static std::unique_ptr<Memory> make(std::size_t bytes) {
    const bool huge = bytes >= 2 * kHugePage;
    const std::size_t mapped = whole(bytes, kPage) + (huge ? kHugePage : 0);
    void* const base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) out_of_memory(bytes);
    std::byte* start = static_cast<std::byte*>(base);
    if (huge) {
      const std::size_t past = reinterpret_cast<std::uintptr_t>(start) % kHugePage;
      if (past != 0) start += kHugePage - past;
      madvise(start, whole(bytes, kPage), MADV_HUGEPAGE);  // a wish: without it all is well, only slower
    }
    return std::unique_ptr<Memory>(new HostMemory(start, bytes, base, mapped));
  }
  ~HostMemory() override { munmap(base_, mapped_); }

 private:
  HostMemory(std::byte* start, std::size_t bytes, void* base, std::size_t mapped)
      : Memory(start, bytes), base_(base), mapped_(mapped) {}
  void* base_;
  std::size_t mapped_;
};

#else

void* allocate_pages(std::size_t bytes) {
#  if defined(_WIN32)
  return _aligned_malloc(bytes, kPage);
#  else
  return std::aligned_alloc(kPage, bytes);
#  endif
}

void free_pages(void* pages) {
#  if defined(_WIN32)
  _aligned_free(pages);
#  else
  std::free(pages);
#  endif
}

class HostMemory final : public Memory {
 public:
  static std::unique_ptr<Memory> make(std::size_t bytes) {
    const std::size_t rounded = whole(bytes, kPage);
    void* const pages = allocate_pages(rounded);
    if (pages == nullptr) out_of_memory(bytes);
    std::memset(pages, 0, rounded);
    return std::unique_ptr<Memory>(new HostMemory(static_cast<std::byte*>(pages), bytes));
  }
  ~HostMemory() override { free_pages(data()); }

 private:
  HostMemory(std::byte* start, std::size_t bytes) : Memory(start, bytes) {}
};

#endif

}  // namespace

std::unique_ptr<Memory> allocate_host(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) out_of_memory(bytes);
  // Never of no bytes: an address is wanted even for nothing.
  return HostMemory::make(bytes == 0 ? kPage : bytes);
}

}  // namespace mtadam
