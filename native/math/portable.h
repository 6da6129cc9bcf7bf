#pragma once

// Macros that let one header compile for the host and for the device. No CUDA header is included here or below.

#if defined(__CUDACC__)
#  define MTADAM_HD __host__ __device__
#else
#  define MTADAM_HD
#endif

// For every function that the element loops inline. Internal linkage is on purpose: the CPU loops are compiled once per
// instruction set, and the linker keeps one copy of a function with external linkage. If that were the AVX-512 copy, it
// would also run on machines without AVX-512.
#if defined(_MSC_VER) && !defined(__CUDACC__)
#  define MTADAM_INLINE static __forceinline
#elif defined(__CUDACC__)
#  define MTADAM_INLINE static MTADAM_HD __forceinline__
#else
#  define MTADAM_INLINE static inline __attribute__((always_inline))
#endif
