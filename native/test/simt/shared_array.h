#pragma once

#include "test/simt/machine.h"

/// An array in shared memory; under nvcc `__shared__ type name[count]`. It starts as NaN bytes, never as zeros by luck,
/// and lies between red zones. The lambda gives each place, and each instance of a template, an array of its own.
#define MTADAM_SHARED(type, name, count)                                         \
  type(&name)[count] = *static_cast<type(*)[count]>(simt::machine::shared_array( \
      [] {                                                                       \
        static char key;                                                         \
        return static_cast<const void*>(&key);                                   \
      }(),                                                                       \
      sizeof(type) * (count), alignof(type), simt::Where::current()))
