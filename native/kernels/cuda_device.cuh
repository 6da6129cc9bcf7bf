#pragma once

// The one header that means plain CUDA under nvcc and the host executor under any other compiler: the same kernel
// source runs on a GPU and, one fiber per CUDA thread, in the tests.

#if defined(__CUDACC__)
#  include <cuda_runtime.h>

/// An array in shared memory. A macro, since the executor has to know of each.
#  define MTADAM_SHARED(type, name, count) __shared__ type name[count]
#else
#  include "test/simt/device.h"
#endif
