#pragma once

#include <functional>
#include <utility>

#include "test/simt/cuda_runtime.h"
#include "test/simt/executor.h"

namespace simt {

namespace cuda {

/// Launches what `run` does when it is called, under the name of `function`.
cudaError_t launch(const void* function, dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> run);

}  // namespace cuda

/// kernel<<<grid, block, 0, stream>>>(arguments...): the arguments are converted and copied now. Returns the error that
/// cudaGetLastError would then return.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
                   Arguments&&... arguments) {
  const KernelCall<Parameters...> call{kernel, {std::forward<Arguments>(arguments)...}};
  return cuda::launch(reinterpret_cast<const void*>(kernel), grid, block, stream,
                      [call, grid, block] { call.run(grid, block); });
}

}  // namespace simt
