#include "cuda/kernels/norms.cuh"

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

auto norms_kernel(const Tables& tables) {
  return tables.network ? &kernels::norms_kernel<true> : &kernels::norms_kernel<false>;
}

}  // namespace

void launch_norms(const Tables& tables, const Call& call, cudaStream_t stream) {
  const std::uint64_t items = std::max<std::uint64_t>(tables.chunk_count * call.count, tables.empty_layer_count);
  check(launch_kernel(norms_kernel(tables), grid_for(items), kernels::kNormThreads, stream, tables, call),
        "norms_kernel");
}

void load_norms(const Tables& tables) { check(load_kernel(norms_kernel(tables)), "norms_kernel"); }

}  // namespace mtadam::cuda
