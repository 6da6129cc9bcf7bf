#pragma once

#include <cstdint>

#include "math/element_types.h"

namespace mtadam {

/// Rounds to the nearest bfloat16, in host memory.
inline void narrow_values(std::uint16_t* to, const float* from, std::uint64_t count) {
  for (std::uint64_t k = 0; k < count; ++k) to[k] = static_cast<std::uint16_t>(nearest_bfloat16(from[k]));
}

/// From a narrow type, exactly.
inline void widen_values(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type) {
  for (std::uint64_t k = 0; k < count; ++k) to[k] = decoded(type, from[k]);
}

}  // namespace mtadam
