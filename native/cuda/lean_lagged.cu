#include "cuda/kernels/lean_lagged.cuh"

#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

using kernels::LeanLaggedForm;
using kernels::LeanSums;

template <LeanSums kSums>
LaggedKernel step_kernel(const Tables& tables) {
  // With fewer sums in shared memory, a multiprocessor holds more blocks.
  return tables.term_count <= 3 ? kernels::lean_lagged_kernel<LeanLaggedForm<3, kSums, true>>
                                : kernels::lean_lagged_kernel<LeanLaggedForm<kMostLaggedTerms, kSums, true>>;
}

template <LeanSums kSums>
constexpr LaggedKernel kTerm = kernels::lean_lagged_kernel<LeanLaggedForm<1, kSums, false>>;

}  // namespace

LaggedKernel lean_lagged_step_kernel(const Tables& tables) {
  if (tables.one_v) return step_kernel<LeanSums::kBoth>(tables);
  return tables.summed ? step_kernel<LeanSums::kFirst>(tables) : step_kernel<LeanSums::kNone>(tables);
}

LaggedKernel lean_lagged_term_kernel(const Tables& tables) {
  if (tables.one_v) return kTerm<LeanSums::kBoth>;
  return tables.summed ? kTerm<LeanSums::kFirst> : kTerm<LeanSums::kNone>;
}

}  // namespace mtadam::cuda
