#include "cuda/kernels/lagged_network.cuh"

#include <algorithm>

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

using kernels::LaggedForm;
using kernels::LaggedMoments;
using Kernel = LaggedKernel;

template <std::uint32_t kTerms, LaggedMoments kMoments, bool kAmsgrad, bool kSkips>
constexpr Kernel kStep = kernels::lagged_kernel<LaggedForm<kTerms, kMoments, kAmsgrad, kSkips, true>>;

// Without skipped elements, which few ask for, only the loop over any number of terms exists.
template <LaggedMoments kMoments, bool kAmsgrad>
Kernel step_kernel(const Tables& tables) {
  if (!skips_elements(tables.non_finite)) return kStep<kMostLaggedTerms, kMoments, kAmsgrad, false>;
  if (tables.term_count == 1) return kStep<1, kMoments, kAmsgrad, true>;
  return tables.term_count <= 3 ? kStep<3, kMoments, kAmsgrad, true>
                                : kStep<kMostLaggedTerms, kMoments, kAmsgrad, true>;
}

template <LaggedMoments kMoments>
Kernel step_kernel(const Tables& tables) {
  return tables.amsgrad ? step_kernel<kMoments, true>(tables) : step_kernel<kMoments, false>(tables);
}

Kernel step_kernel(const Tables& tables) {
  if (has_lean_update(tables, true)) return lean_lagged_step_kernel(tables);
  if (tables.one_v) return step_kernel<LaggedMoments::kBothSummed>(tables);
  return tables.summed ? step_kernel<LaggedMoments::kSummed>(tables) : step_kernel<LaggedMoments::kPerTerm>(tables);
}

// The shared x takes its share of v in the update.
template <LaggedMoments kMoments, bool kAmsgrad = false>
Kernel term_kernel(const Tables& tables) {
  return skips_elements(tables.non_finite) ? kernels::lagged_kernel<LaggedForm<1, kMoments, kAmsgrad, true, false>>
                                           : kernels::lagged_kernel<LaggedForm<1, kMoments, kAmsgrad, false, false>>;
}

Kernel term_kernel(const Tables& tables) {
  if (has_lean_moments(tables)) return lean_lagged_term_kernel(tables);
  if (tables.one_v) return term_kernel<LaggedMoments::kBothSummed>(tables);
  if (tables.summed) return term_kernel<LaggedMoments::kSummed>(tables);
  return tables.amsgrad ? term_kernel<LaggedMoments::kPerTerm, true>(tables)
                        : term_kernel<LaggedMoments::kPerTerm>(tables);
}

constexpr Kernel kNetworkBegin = kernels::network_begin_kernel;
template <bool kWhole>
constexpr Kernel kNetworkEnd = kernels::network_end_kernel<kWhole>;

void launch(Kernel kernel, Kernel network_end, const Tables& tables, const Call& call, cudaStream_t stream,
            bool& begun) {
  const auto launch_one = [&](Kernel one, std::uint64_t items, const char* name) {
    check(launch_kernel(one, grid_for(items), kernels::kNormThreads, stream, tables, call), name);
    begun = true;
  };
  if (tables.network) launch_one(kNetworkBegin, tables.layer_count, "network_begin_kernel");
  launch_one(kernel, std::max<std::uint64_t>(tables.chunk_count, tables.empty_layer_count), "lagged_kernel");
  if (tables.network) launch_one(network_end, tables.layer_count, "network_end_kernel");
}

}  // namespace

void launch_lagged_step(const Tables& tables, const Call& call, cudaStream_t stream, bool& begun) {
  launch(step_kernel(tables), kNetworkEnd<true>, tables, call, stream, begun);
}

void launch_lagged_term(const Tables& tables, const Call& call, cudaStream_t stream, bool& begun) {
  launch(term_kernel(tables), kNetworkEnd<false>, tables, call, stream, begun);
}

void load_lagged(const Tables& tables) {
  for (const Kernel kernel : {step_kernel(tables), term_kernel(tables)}) check(load_kernel(kernel), "lagged_kernel");
  if (!tables.network) return;
  for (const Kernel kernel : {kNetworkBegin, kNetworkEnd<true>, kNetworkEnd<false>}) {
    check(load_kernel(kernel), "network_begin_kernel, network_end_kernel");
  }
}

}  // namespace mtadam::cuda
