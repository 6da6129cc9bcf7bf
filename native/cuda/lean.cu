#include "cuda/kernels/lean.cuh"

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

using kernels::LeanSums;
struct Kernel {
  void (*function)(Tables, Call);
  std::uint32_t blocks;  // that a multiprocessor holds
};

template <LeanSums kSums, bool kGradients>
constexpr Kernel kUpdate{kernels::lean_update_kernel<kSums, kGradients>, kernels::lean_blocks(kSums, kGradients)};

template <bool kGradients>
Kernel update_kernel(const Tables& tables) {
  if (tables.one_v) return kUpdate<LeanSums::kBoth, kGradients>;
  return tables.summed ? kUpdate<LeanSums::kFirst, kGradients> : kUpdate<LeanSums::kNone, kGradients>;
}

template <LeanSums kSums>
constexpr Kernel kMoments{kernels::lean_moments_kernel<kSums>, kernels::kLeanMomentsBlocks};

Kernel moments_kernel(const Tables& tables) {
  if (tables.one_v) return kMoments<LeanSums::kBoth>;
  return tables.summed ? kMoments<LeanSums::kFirst> : kMoments<LeanSums::kNone>;
}

void launch(const Kernel& kernel, const Tables& tables, const Call& call, std::uint32_t multiprocessors,
            cudaStream_t stream, const char* name) {
  const dim3 grid = grid_for(tables.chunk_count, std::uint64_t{multiprocessors} * kernel.blocks);
  check(launch_kernel(kernel.function, grid, kernels::kUpdateBlockThreads, stream, tables, call), name);
}

}  // namespace

void launch_lean_moments(const Tables& tables, const Call& call, std::uint32_t multiprocessors, cudaStream_t stream) {
  launch(moments_kernel(tables), tables, call, multiprocessors, stream, "lean_moments_kernel");
}

void launch_lean_update(const Tables& tables, const Call* call, std::uint32_t multiprocessors, cudaStream_t stream) {
  const Call used = call != nullptr ? *call : Call{};
  const Kernel kernel = call != nullptr ? update_kernel<true>(tables) : update_kernel<false>(tables);
  launch(kernel, tables, used, multiprocessors, stream, "lean_update_kernel");
}

void load_lean(const Tables& tables) {
  check(load_kernel(moments_kernel(tables).function), "lean_moments_kernel");
  for (const Kernel& kernel : {update_kernel<false>(tables), update_kernel<true>(tables)}) {
    check(load_kernel(kernel.function), "lean_update_kernel");
  }
}

}  // namespace mtadam::cuda
