#include "cuda/kernels/update.cuh"

#include <iterator>

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

using kernels::UpdateForm;
struct UpdateKernel {
  void (*function)(Tables, Call);
  std::uint32_t blocks;  // that a multiprocessor holds
};

// With V there is M, and G stands for any number of terms.
template <std::uint32_t kTerms, bool kSummed, bool kAmsgrad, bool kGradients, bool kOneV, bool kSkips = false>
UpdateKernel update_kernel() {
  using Form = UpdateForm<kOneV && !kGradients ? 1 : kTerms, kSummed || kOneV, kAmsgrad, kGradients, kOneV, kSkips>;
  return {&kernels::update_kernel<Form>, Form::kBlocks};
}

// All forms gather G alike.
template <bool kSummed, bool kAmsgrad, bool kOneV, bool kSkips>
UpdateKernel moments_kernel() {
  return {&kernels::moments_kernel < kSummed || kOneV, kAmsgrad && !kOneV, kOneV, kSkips >, kernels::kMomentsBlocks};
}

// Each picker consumes one run-time choice and ends at the instantiation that all of them name.

template <std::uint32_t kTerms, bool... kFlags>
UpdateKernel pick_update(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 4) {
    return update_kernel<kTerms, kFlags...>();
  } else {
    return *flags ? pick_update<kTerms, kFlags..., true>(flags + 1) : pick_update<kTerms, kFlags..., false>(flags + 1);
  }
}

template <std::size_t kIndex = 0>
UpdateKernel pick_update(std::uint32_t terms, const bool* flags) {
  if constexpr (kIndex == std::size(kernels::kUnrolledTerms)) {
    return pick_update<std::uint32_t{0}>(flags);
  } else {
    constexpr std::uint32_t kMost = kernels::kUnrolledTerms[kIndex];
    return terms <= kMost ? pick_update<kMost>(flags) : pick_update<kIndex + 1>(terms, flags);
  }
}

template <bool... kFlags>
UpdateKernel pick_moments(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 4) {
    return moments_kernel<kFlags...>();
  } else {
    return *flags ? pick_moments<kFlags..., true>(flags + 1) : pick_moments<kFlags..., false>(flags + 1);
  }
}

UpdateKernel moments_kernel(const Tables& tables) {
  const bool flags[] = {tables.summed, tables.amsgrad, tables.one_v, skips_elements(tables.non_finite)};
  return pick_moments<>(flags);
}

// Only the loop over any number of terms exists in this form: unrolled, it would be a third of all code, for launches
// that read the gradients after a launch of norms.
template <bool... kFlags>
UpdateKernel pick_skipping_update(const bool* flags) {
  if constexpr (sizeof...(kFlags) == 4) {
    return update_kernel<0, kFlags..., true>();
  } else if constexpr (sizeof...(kFlags) == 2) {
    return pick_skipping_update<kFlags..., true>(flags + 1);
  } else {
    return *flags ? pick_skipping_update<kFlags..., true>(flags + 1)
                  : pick_skipping_update<kFlags..., false>(flags + 1);
  }
}

UpdateKernel update_kernel(const Tables& tables, bool gradients) {
  const bool flags[] = {tables.summed, tables.amsgrad, gradients, tables.one_v};
  if (gradients && skips_elements(tables.non_finite)) return pick_skipping_update<>(flags);
  return pick_update<>(tables.term_count, flags);
}

void launch(const UpdateKernel& kernel, const Tables& tables, const Call& call, std::uint32_t multiprocessors,
            cudaStream_t stream, const char* name) {
  const dim3 grid = grid_for(tables.chunk_count, std::uint64_t{multiprocessors} * kernel.blocks);
  check(launch_kernel(kernel.function, grid, kernels::kUpdateBlockThreads, stream, tables, call), name);
}

}  // namespace

void launch_moments(const Tables& tables, const Call& call, std::uint32_t multiprocessors, cudaStream_t stream) {
  if (has_lean_moments(tables)) return launch_lean_moments(tables, call, multiprocessors, stream);
  launch(moments_kernel(tables), tables, call, multiprocessors, stream, "moments_kernel");
}

void launch_update(const Tables& tables, const Call* call, std::uint32_t multiprocessors, cudaStream_t stream) {
  if (has_lean_update(tables, call != nullptr)) return launch_lean_update(tables, call, multiprocessors, stream);
  const Call used = call != nullptr ? *call : Call{};
  launch(update_kernel(tables, call != nullptr), tables, used, multiprocessors, stream, "update_kernel");
}

void load_update(const Tables& tables) {
  if (has_lean_moments(tables) || has_lean_update(tables, true)) load_lean(tables);
  if (!has_lean_moments(tables)) check(load_kernel(moments_kernel(tables).function), "moments_kernel");
  for (const bool gradients : {false, true}) {
    if (has_lean_update(tables, gradients)) continue;
    check(load_kernel(update_kernel(tables, gradients).function), "update_kernel");
  }
}

}  // namespace mtadam::cuda
