#pragma once

#include <cstdint>
#include <cstring>

#include "test/simt/machine.h"
#include "test/simt/thread.h"

// CUDA's barriers, warp operations and fences. The place in the source comes as a default argument, so that an error
// can name it.

inline void __syncthreads(const simt::Where& where = simt::Where::current()) {
  simt::machine::barrier(simt::machine::Barrier::kPlain, false, where);
}

inline int __syncthreads_count(int predicate, const simt::Where& where = simt::Where::current()) {
  return simt::machine::barrier(simt::machine::Barrier::kCount, predicate != 0, where);
}

inline int __syncthreads_and(int predicate, const simt::Where& where = simt::Where::current()) {
  return simt::machine::barrier(simt::machine::Barrier::kAnd, predicate != 0, where);
}

inline int __syncthreads_or(int predicate, const simt::Where& where = simt::Where::current()) {
  return simt::machine::barrier(simt::machine::Barrier::kOr, predicate != 0, where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, const simt::Where& where = simt::Where::current()) {
  simt::machine::sync_warp(mask, where);
}

namespace simt {

template <class T>
T shuffle_from(unsigned mask, T value, unsigned source_lane, const Where& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "warp shuffles take values of four or eight bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = machine::shuffle(mask, bits, source_lane, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

/// A warp is cut into groups of `width` lanes, and a shuffle stays within its group.
inline unsigned first_of_group(int width) { return current_thread->lane & ~(static_cast<unsigned>(width) - 1); }
inline unsigned end_of_group(int width) { return first_of_group(width) + static_cast<unsigned>(width); }

}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, const simt::Where& where = simt::Where::current()) {
  const unsigned within_group = static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1);
  return simt::shuffle_from(mask, value, simt::first_of_group(width) | within_group, where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  const simt::Where& where = simt::Where::current()) {
  const unsigned lane = simt::current_thread->lane;
  const unsigned source = lane ^ static_cast<unsigned>(lane_mask);
  return simt::shuffle_from(mask, value, source < simt::end_of_group(width) ? source : lane, where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   const simt::Where& where = simt::Where::current()) {
  const unsigned lane = simt::current_thread->lane;
  const unsigned source = lane + delta;
  return simt::shuffle_from(mask, value, source < simt::end_of_group(width) ? source : lane, where);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 const simt::Where& where = simt::Where::current()) {
  const unsigned lane = simt::current_thread->lane;
  const bool inside = lane >= simt::first_of_group(width) + delta;
  return simt::shuffle_from(mask, value, inside ? lane - delta : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const simt::Where& where = simt::Where::current()) {
  return simt::machine::ballot(mask, predicate != 0, where);
}

inline int __any_sync(unsigned mask, int predicate, const simt::Where& where = simt::Where::current()) {
  return simt::machine::ballot(mask, predicate != 0, where) != 0;
}

inline int __all_sync(unsigned mask, int predicate, const simt::Where& where = simt::Where::current()) {
  return simt::machine::ballot(mask, predicate != 0, where) == mask;
}

/// Which lanes happen to run together is the machine's choice: no kernel may depend on it.
unsigned __activemask() = delete;

inline void __threadfence() { simt::machine::fence(); }

/// Only a hint; here it lets the others run.
inline void __nanosleep(unsigned, const simt::Where& where = simt::Where::current()) { simt::machine::spin(where); }
