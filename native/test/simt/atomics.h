#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "test/simt/machine.h"

// CUDA's atomics, for the types that CUDA has them for, and the ordered loads and stores that kernels use through
// helpers of their own. A sanitizer sees each as one atomic access. CUDA's atomics order no other accesses, so all are
// relaxed here: a kernel that publishes data with them needs a fence.

namespace simt {

template <class T, class... Types>
concept one_of = (std::same_as<T, Types> || ...);

template <class T>
concept AtomicInteger = one_of<T, int, unsigned, unsigned long long>;

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

/// Only one fiber of a host thread runs at a time and the runtime lets one kernel run at a time, so the exchange finds
/// the value that was peeked at; it is one all the same, for the sanitizers' sake. Values stay in registers: a place on
/// the stack would look like a race, since the thread sanitizer takes the write for another fiber's (machine.cpp).
template <class T, class Operation>
T modify(T* address, Operation operation, const Where& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  auto* word = reinterpret_cast<Bits<T>*>(address);
  machine::before_write(machine::Write::kRelaxed, where);
  const Bits<T> old = machine::peek(word);
  const Bits<T> changed = std::bit_cast<Bits<T>>(static_cast<T>(operation(std::bit_cast<T>(old))));
  __atomic_exchange_n(word, changed, __ATOMIC_RELAXED);
  machine::after_write(word, machine::Write::kRelaxed);
  machine::after_read(word);
  machine::end_write(changed != old, where);
  return std::bit_cast<T>(old);
}

}  // namespace simt

template <simt::AtomicInteger T>
T atomicAdd(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T old) { return old + value; }, where);
}

/// Sums of floating-point values depend on the order, and blocks have none.
float atomicAdd(float* address, float value) = delete;
double atomicAdd(double* address, double value) = delete;

template <class T>
  requires simt::AtomicInteger<T> || std::same_as<T, long long>
T atomicMax(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T old) { return old > value ? old : value; }, where);
}

template <class T>
  requires simt::AtomicInteger<T> || std::same_as<T, long long>
T atomicMin(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T old) { return old < value ? old : value; }, where);
}

template <simt::AtomicInteger T>
T atomicOr(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T old) { return old | value; }, where);
}

template <simt::AtomicInteger T>
T atomicAnd(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T old) { return old & value; }, where);
}

template <class T>
  requires simt::AtomicInteger<T> || std::same_as<T, float>
T atomicExch(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T) { return value; }, where);
}

template <simt::AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value,
            const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](T old) { return old == expected ? value : old; }, where);
}

/// Counts up to `limit` and starts again at 0.
inline unsigned atomicInc(unsigned* address, unsigned limit, const simt::Where& where = simt::Where::current()) {
  return simt::modify(
      address, [=](unsigned old) { return old >= limit ? 0u : old + 1; }, where);
}

// ---- Ordered accesses. On the device: ld.relaxed.gpu, ld.acquire.gpu, st.relaxed.gpu, st.release.gpu,
// ---- atom.add.relaxed.gpu, atom.add.release.gpu, atom.add.acq_rel.gpu.

namespace simt {

template <class T>
concept OrderedWord = std::integral<T> && (sizeof(T) == 4 || sizeof(T) == 8);

constexpr machine::Write write_order(int order) {
  return order == __ATOMIC_RELAXED ? machine::Write::kRelaxed : machine::Write::kRelease;
}

template <int kOrder, OrderedWord T>
T load_ordered(const T* address, const Where& where) {
  machine::before_read(where);
  const T value = __atomic_load_n(address, kOrder);
  machine::after_read(const_cast<T*>(address));
  return value;
}

template <int kOrder, OrderedWord T>
void store_ordered(T* address, T value, const Where& where) {
  constexpr machine::Write kWrite = write_order(kOrder);
  machine::before_write(kWrite, where);
  __atomic_store_n(address, value, kOrder);
  machine::after_write(address, kWrite);
  machine::end_write(true, where);
}

template <int kOrder, OrderedWord T>
T add_ordered(T* address, T value, const Where& where) {
  constexpr machine::Write kWrite = write_order(kOrder);
  machine::before_write(kWrite, where);
  const T old = __atomic_fetch_add(address, value, kOrder);
  machine::after_write(address, kWrite);
  machine::after_read(address);
  machine::end_write(value != 0, where);
  return old;
}

}  // namespace simt

template <simt::OrderedWord T>
T load_relaxed(const T* address, const simt::Where& where = simt::Where::current()) {
  return simt::load_ordered<__ATOMIC_RELAXED>(address, where);
}

template <simt::OrderedWord T>
T load_acquire(const T* address, const simt::Where& where = simt::Where::current()) {
  return simt::load_ordered<__ATOMIC_ACQUIRE>(address, where);
}

template <simt::OrderedWord T>
void store_relaxed(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  simt::store_ordered<__ATOMIC_RELAXED>(address, value, where);
}

template <simt::OrderedWord T>
void store_release(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  simt::store_ordered<__ATOMIC_RELEASE>(address, value, where);
}

template <simt::OrderedWord T>
T add_relaxed(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::add_ordered<__ATOMIC_RELAXED>(address, value, where);
}

template <simt::OrderedWord T>
T add_release(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::add_ordered<__ATOMIC_RELEASE>(address, value, where);
}

template <simt::OrderedWord T>
T add_acq_rel(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) {
  return simt::add_ordered<__ATOMIC_ACQ_REL>(address, value, where);
}
