#pragma once

#include <cstddef>

// The sanitizers' own interfaces, as weak symbols: present when the program is linked with one, null otherwise. The
// executor is compiled without instrumentation in either case and tells the sanitizer what it does.

extern "C" {
#define SIMT_WEAK __attribute__((weak))
SIMT_WEAK void __sanitizer_start_switch_fiber(void** fake_stack, const void* stack_bottom, std::size_t stack_size);
SIMT_WEAK void __sanitizer_finish_switch_fiber(void* fake_stack, const void** stack_bottom, std::size_t* stack_size);
SIMT_WEAK void __asan_poison_memory_region(const volatile void* begin, std::size_t size);
SIMT_WEAK void __asan_unpoison_memory_region(const volatile void* begin, std::size_t size);
SIMT_WEAK void* __tsan_get_current_fiber();
SIMT_WEAK void* __tsan_create_fiber(unsigned flags);
SIMT_WEAK void __tsan_destroy_fiber(void* fiber);
SIMT_WEAK void __tsan_switch_to_fiber(void* fiber, unsigned flags);
SIMT_WEAK void __tsan_acquire(void* address);
SIMT_WEAK void __tsan_release(void* address);
SIMT_WEAK void AnnotateIgnoreReadsBegin(const char* file, int line);
SIMT_WEAK void AnnotateIgnoreReadsEnd(const char* file, int line);
SIMT_WEAK void AnnotateIgnoreWritesBegin(const char* file, int line);
SIMT_WEAK void AnnotateIgnoreWritesEnd(const char* file, int line);
#undef SIMT_WEAK
}

namespace simt {

inline bool under_address_sanitizer() { return __asan_poison_memory_region != nullptr; }
inline bool under_thread_sanitizer() { return __tsan_create_fiber != nullptr; }

inline void poison(const void* begin, std::size_t size) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(begin, size);
}

inline void unpoison(const void* begin, std::size_t size) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(begin, size);
}

/// Makes the calling thread's earlier accesses visible to threads that acquire the same address later.
inline void release_order(void* address) {
  if (__tsan_release) __tsan_release(address);
}

inline void acquire_order(void* address) {
  if (__tsan_acquire) __tsan_acquire(address);
}

/// Tells the thread sanitizer which thread runs, without ordering the two: only what orders threads on a device may
/// order them here.
inline void switch_tsan_fiber(void* fiber) {
  constexpr unsigned kNoSync = 1;
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(fiber, kNoSync);
}

/// While one exists, the thread sanitizer does not look at this thread's accesses: the C library's functions that the
/// executor calls are watched even though the executor is not.
class Unwatched {
 public:
  Unwatched() {
    if (!AnnotateIgnoreReadsBegin) return;
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    if (!AnnotateIgnoreReadsEnd) return;
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace simt
