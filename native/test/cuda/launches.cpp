#include "test/cuda/launches.h"

#include <stdexcept>

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"
#include "cuda/kernels/cosines.cuh"
#include "cuda/kernels/lagged.cuh"
#include "cuda/kernels/lagged_network.cuh"
#include "cuda/kernels/pick_norms.cuh"
#include "cuda/kernels/update.cuh"

// In place of native/cuda/cosines.cu, lagged.cu, norms.cu and update.cu: the same kernels on a grid of any size. Only a
// few, so that a planted bug compiles in seconds: no amsgrad, three terms unrolled and the loop for other numbers,
// which also skips elements. A lean state has those of native/cuda/lean.cu and lean_lagged.cu.

namespace mtadam {
namespace {

unsigned grid = 0;

dim3 grid_of(std::uint64_t items) { return grid != 0 ? dim3(grid) : cuda::grid_for(items); }

using UpdateKernel = void (*)(Tables, Call);

template <bool kSummed, bool kGradients, bool kOneV = false>
UpdateKernel update_kernel(std::uint32_t terms) {
  return terms == 3 ? &kernels::update_kernel<kernels::UpdateForm<3, kSummed, false, kGradients, kOneV>>
                    : &kernels::update_kernel<kernels::UpdateForm<0, kSummed, false, kGradients, kOneV>>;
}

void check_form(const Tables& tables) {
  if (tables.amsgrad) throw std::logic_error("launches.cpp has no kernels for amsgrad");
}

bool skips_elements(const Tables& tables) { return tables.non_finite == NonFinite::kSkipElement; }

template <bool kSummed, bool kOneV = false>
UpdateKernel skipping_update() {
  return &kernels::update_kernel<kernels::UpdateForm<0, kSummed, false, true, kOneV, true>>;
}

template <bool kSummed, bool kOneV = false>
UpdateKernel moments_kernel(bool skips) {
  return skips ? &kernels::moments_kernel<kSummed, false, kOneV, true>
               : &kernels::moments_kernel<kSummed, false, kOneV>;
}

UpdateKernel update_kernel(const Tables& tables, bool gradients) {
  check_form(tables);
  if (gradients && skips_elements(tables)) {
    if (tables.one_v) return skipping_update<true, true>();
    return tables.summed ? skipping_update<true>() : skipping_update<false>();
  }
  const std::uint32_t terms = tables.term_count;
  if (tables.one_v) return gradients ? update_kernel<true, true, true>(terms) : update_kernel<true, false, true>(1);
  if (tables.summed) return gradients ? update_kernel<true, true>(terms) : update_kernel<true, false>(terms);
  return gradients ? update_kernel<false, true>(terms) : update_kernel<false, false>(terms);
}

UpdateKernel moments_kernel(const Tables& tables) {
  check_form(tables);
  const bool skips = skips_elements(tables);
  if (tables.one_v) return moments_kernel<true, true>(skips);
  return tables.summed ? moments_kernel<true>(skips) : moments_kernel<false>(skips);
}

using kernels::LaggedForm;
using kernels::LaggedMoments;

template <bool kSkips, bool kWhole>
UpdateKernel lagged_kernel(const Tables& tables) {
  check_form(tables);
  constexpr std::uint32_t kTerms = kWhole ? cuda::kMostLaggedTerms : 1;
  if (tables.one_v) {
    return &kernels::lagged_kernel<LaggedForm<kTerms, LaggedMoments::kBothSummed, false, kSkips, kWhole>>;
  }
  return tables.summed ? &kernels::lagged_kernel<LaggedForm<kTerms, LaggedMoments::kSummed, false, kSkips, kWhole>>
                       : &kernels::lagged_kernel<LaggedForm<kTerms, LaggedMoments::kPerTerm, false, kSkips, kWhole>>;
}

UpdateKernel lagged_step(const Tables& tables) {
  if (cuda::has_lean_update(tables, true)) return cuda::lean_lagged_step_kernel(tables);
  return skips_elements(tables) ? lagged_kernel<true, true>(tables) : lagged_kernel<false, true>(tables);
}

UpdateKernel lagged_term(const Tables& tables) {
  if (cuda::has_lean_moments(tables)) return cuda::lean_lagged_term_kernel(tables);
  return skips_elements(tables) ? lagged_kernel<true, false>(tables) : lagged_kernel<false, false>(tables);
}

}  // namespace

namespace test {

void set_grid(unsigned blocks) { grid = blocks; }

}  // namespace test

namespace cuda {

void launch_norms(const Tables& tables, const Call& call, cudaStream_t stream) {
  const std::uint64_t items = std::max<std::uint64_t>(tables.chunk_count * call.count, tables.empty_layer_count);
  check(launch_kernel(kernels::norms_kernel_for(tables), grid_of(items), kernels::kNormThreads, stream, tables, call),
        "norms_kernel");
}

void launch_cosines(const Tables& tables, const Call& call, cudaStream_t stream) {
  const std::uint64_t pairs = kernels::tile_pairs(call.count);
  const std::uint64_t items = std::max<std::uint64_t>(tables.chunk_count * pairs, tables.empty_layer_count);
  check(launch_kernel(kernels::cosines_kernel_for(tables), grid_of(items), kernels::cosine_threads(call.count), stream,
                      tables, call, pairs),
        "cosines_kernel");
}

void launch_moments(const Tables& tables, const Call& call, std::uint32_t multiprocessors, cudaStream_t stream) {
  if (has_lean_moments(tables)) return launch_lean_moments(tables, call, multiprocessors, stream);
  check(launch_kernel(moments_kernel(tables), grid_of(tables.chunk_count), kernels::kUpdateBlockThreads, stream, tables,
                      call),
        "moments_kernel");
}

void launch_update(const Tables& tables, const Call* call, std::uint32_t multiprocessors, cudaStream_t stream) {
  if (has_lean_update(tables, call != nullptr)) return launch_lean_update(tables, call, multiprocessors, stream);
  const Call used = call != nullptr ? *call : Call{};
  check(launch_kernel(update_kernel(tables, call != nullptr), grid_of(tables.chunk_count), kernels::kUpdateBlockThreads,
                      stream, tables, used),
        "update_kernel");
}

template <bool kWhole>
void launch_lagged(UpdateKernel kernel, const Tables& tables, const Call& call, cudaStream_t stream, bool& begun) {
  const auto launch_one = [&](UpdateKernel one, std::uint64_t items) {
    check(launch_kernel(one, grid_of(items), kernels::kNormThreads, stream, tables, call), "lagged_kernel");
    begun = true;
  };
  if (tables.network) launch_one(kernels::network_begin_kernel, tables.layer_count);
  launch_one(kernel, tables.chunk_count);
  if (tables.network) launch_one(kernels::network_end_kernel<kWhole>, tables.layer_count);
}

void launch_lagged_step(const Tables& tables, const Call& call, cudaStream_t stream, bool& begun) {
  launch_lagged<true>(lagged_step(tables), tables, call, stream, begun);
}

void launch_lagged_term(const Tables& tables, const Call& call, cudaStream_t stream, bool& begun) {
  launch_lagged<false>(lagged_term(tables), tables, call, stream, begun);
}

void load_lagged(const Tables&) {}
void load_norms(const Tables&) {}
void load_cosines(const Tables&) {}
void load_update(const Tables&) {}

}  // namespace cuda
}  // namespace mtadam
