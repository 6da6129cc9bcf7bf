#include "failing_new.h"

#include <cstdlib>
#include <new>

namespace mtadam::test {

std::atomic<std::int64_t> allocations_left{-1};

}  // namespace mtadam::test

void* operator new(std::size_t size) {
  std::atomic<std::int64_t>& left = mtadam::test::allocations_left;
  const bool fails = left >= 0 && left-- == 0;
  void* const memory = fails ? nullptr : std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
