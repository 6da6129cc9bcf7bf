#include "engine/code_plane.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace mtadam {
namespace {

std::uint32_t exponent_of(bool second, const float* values, std::uint64_t count) {
  std::uint32_t largest = 0;
  for (std::uint64_t k = 0; k < count; ++k) largest = std::max(largest, magnitude(values[k]));
  return second ? v_exponent(largest) : m_exponent(largest);
}

float decoded_8bit(bool second, std::uint32_t code, std::uint32_t exponent) {
  if (exponent == kNanExponent) return std::numeric_limits<float>::quiet_NaN();
  return second ? decoded_v(code, v_base(exponent)) : decoded_m(code, m_down(exponent));
}

std::uint32_t rounded_8bit(bool second, float value, std::uint32_t exponent) {
  if (exponent == kNanExponent) return 0;
  return second ? rounded_v(value, v_base(exponent), draw_v(kHalf)).code
                : rounded_m(value, m_up(exponent), m_down(exponent), kHalfM).code;
}

}  // namespace

std::vector<float> Codes::decoded(bool second) const {
  std::vector<float> values(count_);
  for (std::uint64_t k = 0; k < count_; ++k) {
    if (type_ == StateType::kBfloat16) {
      std::uint16_t code = 0;
      std::memcpy(&code, codes_.data() + k * sizeof code, sizeof code);
      values[k] = decoded_bfloat16(code);
    } else {
      values[k] = decoded_8bit(second, std::to_integer<std::uint32_t>(codes_[k]), exponents_[k / kCodeBlock]);
    }
  }
  return values;
}

void Codes::round(bool second, const float* values) {
  for (std::uint64_t k = 0; k < count_; ++k) {
    if (type_ == StateType::kBfloat16) {
      const auto code = static_cast<std::uint16_t>(second ? drawn_bfloat16(values[k], draw_bfloat16(kHalf))
                                                          : nearest_bfloat16(values[k]));
      std::memcpy(codes_.data() + k * sizeof code, &code, sizeof code);
      continue;
    }
    std::uint8_t& exponent = exponents_[k / kCodeBlock];
    if (k % kCodeBlock == 0) {
      exponent =
          static_cast<std::uint8_t>(exponent_of(second, values + k, std::min<std::uint64_t>(kCodeBlock, count_ - k)));
    }
    codes_[k] = static_cast<std::byte>(rounded_8bit(second, values[k], exponent));
  }
}

}  // namespace mtadam
