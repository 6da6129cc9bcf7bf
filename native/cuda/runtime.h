#pragma once

// The only place where native/cuda includes CUDA's runtime. The tests replace it by a runtime on host memory and an
// executor of kernels.

#include <cuda_runtime_api.h>

namespace mtadam::cuda {

/// kernel<<<grid, threads, 0, stream>>>(arguments...), for any compiler. Returns the launch's error.
template <class... Parameters>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, unsigned threads, cudaStream_t stream,
                          Parameters... arguments) {
#if defined(MTADAM_SIMT)
  return simt::launch(kernel, grid, dim3(threads), stream, arguments...);
#else
  void* addresses[] = {&arguments...};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, dim3(threads), addresses, 0, stream);
#endif
}

/// Has the kernel's code on the current device, so that no launch has to load it.
template <class... Parameters>
cudaError_t load_kernel(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel));
}

}  // namespace mtadam::cuda
