#include "cuda/kernels/pick_norms.cuh"

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {

void launch_norms(const Tables& tables, const Call& call, cudaStream_t stream) {
  const std::uint64_t items = std::max<std::uint64_t>(tables.chunk_count * call.count, tables.empty_layer_count);
  check(launch_kernel(kernels::norms_kernel_for(tables), grid_for(items), kernels::kNormThreads, stream, tables, call),
        "norms_kernel");
}

void load_norms(const Tables& tables) { check(load_kernel(kernels::norms_kernel_for(tables)), "norms_kernel"); }

}  // namespace mtadam::cuda
