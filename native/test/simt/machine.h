#pragma once

#include <cstddef>
#include <cstdint>

#include "test/simt/error.h"

// The executor's functions for kernels. Only the headers with CUDA's names call them, on a fiber. Each may let other
// threads run before it returns, and does not return if the kernel breaks a rule.

namespace simt::machine {

enum class Barrier { kPlain, kCount, kAnd, kOr };

/// __syncthreads and its variants. The result depends on the kind; 0 for kPlain.
int barrier(Barrier kind, bool predicate, const Where& where);

/// The value of `source_lane`, an index in the warp.
std::uint64_t shuffle(unsigned mask, std::uint64_t value, unsigned source_lane, const Where& where);

/// One bit for each lane of the mask whose predicate holds.
unsigned ballot(unsigned mask, bool predicate, const Where& where);

/// Orders the accesses of the lanes in the mask, which the other warp operations do not.
void sync_warp(unsigned mask, const Where& where);

/// The block's array for `key`, made when the first thread of the block asks.
void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const Where& where);

void fence();

/// Lets the others run, and counts as spinning: see Fault::kLivelock.
void spin(const Where& where);

/// Around every atomic access. A read lets the others run first, since it is what threads spin on; a write now and
/// then. With a relaxed write, what a fence ordered is published; after a read, a fence that follows orders what was
/// published with the value. At the end of a write, one that changed nothing counts as spinning.
enum class Write { kRelaxed, kRelease };
void before_read(const Where& where);
void after_read(void* address);
void before_write(Write order, const Where& where);
void after_write(void* address, Write order);
void end_write(bool changed, const Where& where);

/// Reads for the executor itself: no sanitizer sees it.
std::uint32_t peek(const std::uint32_t* address);
std::uint64_t peek(const std::uint64_t* address);

[[noreturn]] void misaligned(const void* address, std::size_t width, const Where& where);

}  // namespace simt::machine
