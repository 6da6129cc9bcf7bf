#pragma once

// A variant of the launches of a step (variants.cmake): a kernel may start before the one ahead of it has ended, and
// waits for it before it reads anything. Hides part of a launch, where the architecture has it (9.0 and newer).

#include <cuda_runtime.h>

namespace mtadam {

/// First in a kernel: waits for all that the kernels ahead write. Then the kernel behind may start, once every block of
/// this one has come so far; earlier, it could overtake the kernel ahead.
__device__ __forceinline__ void wait_for_launch_ahead() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

inline bool has_dependent_launch() {
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

/// As cuda::launch_kernel().
template <class... Parameters>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 grid, unsigned threads, cudaStream_t stream,
                             Parameters... arguments) {
  static const bool dependent = has_dependent_launch();
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = dependent ? 1 : 0;
  void* addresses[] = {&arguments...};
  return cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), addresses);
}

}  // namespace mtadam

// CMake would split a text with a semicolon.
#define MTADAM_WAIT mtadam::wait_for_launch_ahead();
