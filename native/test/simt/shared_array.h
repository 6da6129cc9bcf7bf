#pragma once

#include "test/simt/machine.h"

/// An array in shared memory; under nvcc `__shared__ type name[count]`. It starts as NaN bytes, so never as zeros by
/// chance, between red zones. The lambda makes an array of its own for each place in the source and each instance of a
/// template.
#define MTADAM_SHARED(type, name, count)                                         \
  type(&name)[count] = *static_cast<type(*)[count]>(simt::machine::shared_array( \
      [] {                                                                       \
        static char key;                                                         \
        return static_cast<const void*>(&key);                                   \
      }(),                                                                       \
      sizeof(type) * (count), alignof(type), simt::Where::current()))
