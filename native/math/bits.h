#pragma once

#include <string.h>

#include <cstdint>

#include "math/portable.h"

namespace mtadam {

MTADAM_INLINE std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

MTADAM_INLINE float float_of(std::uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

MTADAM_INLINE std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

MTADAM_INLINE double double_of(std::uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace mtadam
