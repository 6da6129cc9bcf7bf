#pragma once

#include "cuda/kernels/norms.cuh"

// Apart from the kernels: a file that includes this compiles all of them.

namespace mtadam::kernels {

template <bool kNarrow>
auto norms_kernel_of(const Tables& tables) {
  if (tables.lagged) return tables.network ? &norms_kernel<true, true, kNarrow> : &norms_kernel<false, true, kNarrow>;
  return tables.network ? &norms_kernel<true, false, kNarrow> : &norms_kernel<false, false, kNarrow>;
}

inline auto norms_kernel_for(const Tables& tables) {
  return tables.narrow ? norms_kernel_of<true>(tables) : norms_kernel_of<false>(tables);
}

}  // namespace mtadam::kernels
