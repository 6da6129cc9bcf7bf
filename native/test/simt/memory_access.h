#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "test/simt/machine.h"

// CUDA's loads and stores with a cache hint: here plain accesses of the whole width, so that a sanitizer sees them,
// with the alignment that the device asks for. The hint itself has no effect.

namespace simt {

template <class T>
void require_alignment(const T* address, const Where& where) {
  static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16,
                "one access is of 1, 2, 4, 8 or 16 bytes");
  if (reinterpret_cast<std::uintptr_t>(address) % sizeof(T) != 0) machine::misaligned(address, sizeof(T), where);
}

}  // namespace simt

#define SIMT_LOAD(name)                                                         \
  template <class T>                                                            \
  T name(const T* address, const simt::Where& where = simt::Where::current()) { \
    simt::require_alignment(address, where);                                    \
    return *address;                                                            \
  }

SIMT_LOAD(__ldg)   // read-only for the whole kernel
SIMT_LOAD(__ldca)  // cache at all levels
SIMT_LOAD(__ldcg)  // cache in L2
SIMT_LOAD(__ldcs)  // streaming: touched once
SIMT_LOAD(__ldlu)  // last use

#undef SIMT_LOAD

#define SIMT_STORE(name)                                                                                    \
  template <class T>                                                                                        \
  void name(T* address, std::type_identity_t<T> value, const simt::Where& where = simt::Where::current()) { \
    simt::require_alignment(address, where);                                                                \
    *address = value;                                                                                       \
  }

SIMT_STORE(__stwb)  // write back at all levels
SIMT_STORE(__stcg)  // cache in L2
SIMT_STORE(__stcs)  // streaming: touched once
SIMT_STORE(__stwt)  // write through

#undef SIMT_STORE
