#include "test/simt/fiber.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#include "test/simt/sanitizers.h"

namespace simt {

constinit thread_local Thread* current_thread = nullptr;

namespace {

constexpr std::size_t kGuardBytes = 4096;

}  // namespace

Stack::Stack() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
  void* mapped = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  mprotect(mapped, kGuardBytes, PROT_NONE);
  bottom_ = static_cast<char*>(mapped) + kGuardBytes;
  if (__tsan_create_fiber) tsan_fiber_ = __tsan_create_fiber(0);
}

Stack::~Stack() {
  // A fiber that was given up leaves its frames poisoned, and the next mapping may lie in the same place.
  unpoison(bottom_, kStackBytes);
  munmap(bottom_ - kGuardBytes, kGuardBytes + kStackBytes);
  if (tsan_fiber_) __tsan_destroy_fiber(tsan_fiber_);
  if (tsan_fence_fiber_) __tsan_destroy_fiber(tsan_fence_fiber_);
}

void* Stack::tsan_fence_fiber() {
  if (!tsan_fence_fiber_) tsan_fence_fiber_ = __tsan_create_fiber(0);
  return tsan_fence_fiber_;
}

StackPool::~StackPool() {
  for (Stack* stack : free_) delete stack;
}

Stack* StackPool::take(std::uint64_t random) {
  if (free_.empty()) return new Stack;
  if (under_thread_sanitizer()) std::swap(free_[random % free_.size()], free_.back());
  Stack* stack = free_.back();
  free_.pop_back();
  return stack;
}

}  // namespace simt
