#include "cuda/kernels/cosines.cuh"

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {

void launch_cosines(const Tables& tables, const Call& call, cudaStream_t stream) {
  const std::uint64_t pairs = kernels::tile_pairs(call.count);
  const std::uint64_t items = std::max<std::uint64_t>(tables.chunk_count * pairs, tables.empty_layer_count);
  check(launch_kernel(kernels::cosines_kernel_for(tables), grid_for(items), kernels::cosine_threads(call.count), stream,
                      tables, call, pairs),
        "cosines_kernel");
}

void load_cosines(const Tables& tables) { check(load_kernel(kernels::cosines_kernel_for(tables)), "cosines_kernel"); }

}  // namespace mtadam::cuda
