#pragma once

// CUDA's device language for a C++ compiler: with this header instead of CUDA's, the source of a kernel compiles to a
// function that the executor runs once per CUDA thread. See README.md for what a kernel may use.

#if defined(__CUDACC__)
#  error "nvcc has the real thing."
#endif

#include "test/simt/atomics.h"
#include "test/simt/half.h"
#include "test/simt/math_functions.h"
#include "test/simt/memory_access.h"
#include "test/simt/shared_array.h"
#include "test/simt/synchronization.h"
#include "test/simt/thread.h"
#include "test/simt/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#define __shared__ static_assert(false, "shared arrays are declared by MTADAM_SHARED(type, name, count)");
#define __constant__ static_assert(false, "the executor has no constant memory");
