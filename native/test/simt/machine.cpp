#include "test/simt/machine.h"

#include <cstdio>

#include "test/simt/sanitizers.h"
#include "test/simt/scheduler.h"

// The executor's functions for kernels, called on fibers. Nothing here allocates or is instrumented.

namespace simt::machine {

namespace {

Scheduler& scheduler() { return *Scheduler::active(); }

/// The accesses of the lanes in a mask, before and after they meet, are ordered: each lane publishes under its own
/// address and takes over from all.
void acquire_from_lanes(Fiber& fiber, unsigned parity) {
  if (!__tsan_acquire) return;
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (fiber.mask >> k & 1) acquire_order(&fiber.home->lane(fiber, k).warp_order[parity]);
  }
}

std::uint64_t at_warp(Fiber& fiber, WarpOperation operation, unsigned mask, const Where& where) {
  fiber.where = where;
  fiber.mask = mask;
  ++scheduler().stats().warp_operations;
  fiber.home->arrive_at_warp(fiber, operation);
  scheduler().wait();
  return fiber.value;
}

}  // namespace

int barrier(Barrier kind, bool predicate, const Where& where) {
  Fiber& fiber = Scheduler::self();
  fiber.where = where;
  ++scheduler().stats().barriers;
  void* const order = fiber.home->barrier_order(fiber);
  fiber.barrier_parity ^= 1;
  release_order(order);
  fiber.home->arrive_at_barrier(fiber, kind, predicate);
  scheduler().wait();
  acquire_order(order);
  return static_cast<int>(fiber.value);
}

std::uint64_t shuffle(unsigned mask, std::uint64_t value, unsigned source_lane, const Where& where) {
  Fiber& fiber = Scheduler::self();
  fiber.value = value;
  fiber.source_lane = source_lane;
  return at_warp(fiber, WarpOperation::kShuffle, mask, where);
}

unsigned ballot(unsigned mask, bool predicate, const Where& where) {
  Fiber& fiber = Scheduler::self();
  fiber.predicate = predicate;
  return static_cast<unsigned>(at_warp(fiber, WarpOperation::kBallot, mask, where));
}

void sync_warp(unsigned mask, const Where& where) {
  Fiber& fiber = Scheduler::self();
  const unsigned parity = fiber.warp_parity;
  fiber.warp_parity ^= 1;
  release_order(&fiber.warp_order[parity]);
  at_warp(fiber, WarpOperation::kSync, mask, where);
  acquire_from_lanes(fiber, parity);
}

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const Where& where) {
  void* array = Scheduler::self().home->shared().array(key, bytes, alignment, where);
  if (!array) {
    Scheduler::self().where = where;
    scheduler().fail_here(Fault::kSharedMemory, "the block's shared arrays take more than 48 KB");
  }
  return array;
}

// A fence publishes nothing by itself: a later relaxed write to an atomic does, to whoever reads that atomic and then
// passes a fence. For the thread sanitizer a fiber of its own stands for the thread as of its last fence. It makes the
// relaxed writes and releases them, so that those count as published, as CUDA's programs take them to be, but nothing
// that the thread itself has written since the fence.
void fence() {
  Fiber& fiber = Scheduler::self();
  if (under_thread_sanitizer()) {
    for (unsigned k = 0; k < fiber.observed.size(); ++k) acquire_order(fiber.observed[k]);
    fiber.observed.clear();
    void* const fenced = fiber.stack->tsan_fence_fiber();
    release_order(&fiber.fence_order);
    switch_tsan_fiber(fenced);
    acquire_order(&fiber.fence_order);
    switch_tsan_fiber(fiber.stack->tsan_fiber());
    fiber.has_fenced = true;
  }
  scheduler().preempt(fiber);
}

void spin(const Where& where) {
  Fiber& fiber = Scheduler::self();
  fiber.where = where;
  scheduler().note_spin();
  scheduler().give_way(fiber);
}

void before_read(const Where& where) { spin(where); }

void after_read(void* address) {
  if (!under_thread_sanitizer()) return;
  // Without room to wait for a fence, order at once: better to miss a race than to report one that is none.
  if (!Scheduler::self().observed.add(address)) acquire_order(address);
}

void before_write(Write order, const Where& where) {
  Fiber& fiber = Scheduler::self();
  fiber.where = where;
  scheduler().preempt(fiber);
  if (fiber.has_fenced && order == Write::kRelaxed) switch_tsan_fiber(fiber.stack->tsan_fence_fiber());
}

void after_write(void* address, Write order) {
  Fiber& fiber = Scheduler::self();
  if (!fiber.has_fenced || order != Write::kRelaxed) return;
  release_order(address);
  release_order(&fiber.write_order);
  switch_tsan_fiber(fiber.stack->tsan_fiber());
  acquire_order(&fiber.write_order);
}

void end_write(bool changed, const Where& where) {
  if (!changed) return spin(where);
  scheduler().note_progress();
  scheduler().preempt(Scheduler::self());
}

std::uint32_t peek(const std::uint32_t* address) { return __atomic_load_n(address, __ATOMIC_RELAXED); }
std::uint64_t peek(const std::uint64_t* address) { return __atomic_load_n(address, __ATOMIC_RELAXED); }

void misaligned(const void* address, std::size_t width, const Where& where) {
  Scheduler::self().where = where;
  char text[128];
  {
    const Unwatched unwatched;
    std::snprintf(text, sizeof text, "misaligned: %zu bytes at %p", width, address);
  }
  scheduler().fail_here(Fault::kAlignment, text);
}

}  // namespace simt::machine
