#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "test/simt/access.h"
#include "test/simt/machine.h"
#include "test/simt/scheduler.h"

// Replaces the thread sanitizer's runtime: code compiled with -fsanitize=thread calls these functions for each load,
// store and atomic, and code compiled with -fsanitize=alignment for each misaligned pointer. Calls outside of fibers
// are ignored.

extern "C" int simt_access_hooks;
int simt_access_hooks = 1;

namespace {

using simt::current_thread;

enum class Access { kRead, kWrite, kModify };

inline void see(volatile void* address, std::size_t bytes, Access access, bool aligned, const void* code) {
  if (!current_thread) return;
  simt::access::check(const_cast<void*>(address), bytes, access != Access::kWrite, access != Access::kRead, aligned,
                      code);
}

/// A thread may spin on raw volatile reads.
inline void see_volatile_read(void* address, std::size_t bytes, bool aligned, const void* code) {
  if (current_thread) simt::machine::before_read(simt::Scheduler::self().where);
  see(address, bytes, Access::kRead, aligned, code);
}

struct SourceLocation {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
};

/// As gcc lays it out for __ubsan_handle_type_mismatch_v1.
struct TypeMismatch {
  SourceLocation where;
  const void* type;
  unsigned char log_alignment;
  unsigned char kind;
};

[[noreturn]] void misaligned(const TypeMismatch& mismatch, std::uintptr_t address) {
  char text[512];
  std::snprintf(text, sizeof text, "misaligned pointer 0x%zx at %s:%u, where a multiple of %u is needed",
                static_cast<std::size_t>(address), mismatch.where.file, static_cast<unsigned>(mismatch.where.line),
                1u << mismatch.log_alignment);
  if (current_thread) {
    simt::Scheduler::active()->fail_here(simt::Fault::kAlignment, text, __builtin_return_address(0));
  }
  std::fprintf(stderr, "host code: %s\n", text);
  std::abort();
}

}  // namespace

extern "C" {

#define SIMT_CODE __builtin_return_address(0)

#define SIMT_ACCESSES(bytes)                                                                                         \
  void __tsan_read##bytes(void* address) { see(address, bytes, Access::kRead, true, SIMT_CODE); }                    \
  void __tsan_write##bytes(void* address) { see(address, bytes, Access::kWrite, true, SIMT_CODE); }                  \
  void __tsan_unaligned_read##bytes(void* address) { see(address, bytes, Access::kRead, false, SIMT_CODE); }         \
  void __tsan_unaligned_write##bytes(void* address) { see(address, bytes, Access::kWrite, false, SIMT_CODE); }       \
  void __tsan_volatile_read##bytes(void* address) { see_volatile_read(address, bytes, true, SIMT_CODE); }            \
  void __tsan_volatile_write##bytes(void* address) { see(address, bytes, Access::kWrite, true, SIMT_CODE); }         \
  void __tsan_unaligned_volatile_read##bytes(void* address) { see_volatile_read(address, bytes, false, SIMT_CODE); } \
  void __tsan_unaligned_volatile_write##bytes(void* address) { see(address, bytes, Access::kWrite, false, SIMT_CODE); }

SIMT_ACCESSES(1)
SIMT_ACCESSES(2)
SIMT_ACCESSES(4)
SIMT_ACCESSES(8)
SIMT_ACCESSES(16)

void __tsan_read_range(void* address, std::size_t bytes) { see(address, bytes, Access::kRead, false, SIMT_CODE); }
void __tsan_write_range(void* address, std::size_t bytes) { see(address, bytes, Access::kWrite, false, SIMT_CODE); }

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define SIMT_FETCH(bits, type, name)                                                 \
  type __tsan_atomic##bits##_fetch_##name(volatile type* address, type value, int) { \
    see(address, sizeof(type), Access::kModify, true, SIMT_CODE);                    \
    return __atomic_fetch_##name(address, value, __ATOMIC_SEQ_CST);                  \
  }

#define SIMT_ATOMICS(bits, type)                                                                                    \
  type __tsan_atomic##bits##_load(const volatile type* address, int) {                                              \
    see(const_cast<type*>(address), sizeof(type), Access::kRead, true, SIMT_CODE);                                  \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                                              \
  }                                                                                                                 \
  void __tsan_atomic##bits##_store(volatile type* address, type value, int) {                                       \
    see(address, sizeof(type), Access::kWrite, true, SIMT_CODE);                                                    \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                                             \
  }                                                                                                                 \
  type __tsan_atomic##bits##_exchange(volatile type* address, type value, int) {                                    \
    see(address, sizeof(type), Access::kModify, true, SIMT_CODE);                                                   \
    return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* address, type* expected, type value, int, int) { \
    see(address, sizeof(type), Access::kModify, true, SIMT_CODE);                                                   \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* address, type* expected, type value, int, int) {   \
    see(address, sizeof(type), Access::kModify, true, SIMT_CODE);                                                   \
    return __atomic_compare_exchange_n(address, expected, value, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);         \
  }                                                                                                                 \
  type __tsan_atomic##bits##_compare_exchange_val(volatile type* address, type expected, type value, int, int) {    \
    see(address, sizeof(type), Access::kModify, true, SIMT_CODE);                                                   \
    __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);              \
    return expected;                                                                                                \
  }                                                                                                                 \
  SIMT_FETCH(bits, type, add)                                                                                       \
  SIMT_FETCH(bits, type, sub)                                                                                       \
  SIMT_FETCH(bits, type, and)                                                                                       \
  SIMT_FETCH(bits, type, or)                                                                                        \
  SIMT_FETCH(bits, type, xor)                                                                                       \
  SIMT_FETCH(bits, type, nand)

SIMT_ATOMICS(8, std::uint8_t)
SIMT_ATOMICS(16, std::uint16_t)
SIMT_ATOMICS(32, std::uint32_t)
SIMT_ATOMICS(64, std::uint64_t)

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

[[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(void* mismatch, void* address) {
  misaligned(*static_cast<const TypeMismatch*>(mismatch), reinterpret_cast<std::uintptr_t>(address));
}

}  // extern "C"
