#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/runtime.h"

namespace mtadam::cuda {

/// A grid with a block for each of `items`, but no more than `most`: kernels take several items in turn beyond it. At
/// least one block, since a kernel may have something to do besides.
inline dim3 grid_for(std::uint64_t items, std::uint64_t most = 0x7fffffff) {
  return dim3(static_cast<unsigned>(std::clamp<std::uint64_t>(items, 1, most)));
}

}  // namespace mtadam::cuda
