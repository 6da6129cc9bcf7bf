#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "math/tables.h"

namespace mtadam {

/// The plane from an element on; 8-bit codes only from the first of a block.
inline CodePlane code_plane_at(CodePlane plane, StateType type, std::uint64_t elements) {
  if (plane.codes == nullptr) return plane;
  return {plane.codes + elements * code_bytes(type),
          type == StateType::k8bit ? plane.exponents + elements / kCodeBlock : nullptr};
}

/// Codes in the host's memory, for checkpoints: consecutive elements of one lean tensor from the first of a block on.
class Codes {
 public:
  Codes(StateType type, std::uint64_t count)
      : type_(type), count_(count), codes_(count * code_bytes(type)), exponents_(code_blocks(count)) {}

  std::byte* codes() { return codes_.data(); }
  std::uint8_t* exponents() { return exponents_.data(); }

  /// `second`: of v or x.
  std::vector<float> decoded(bool second) const;
  /// From `count` values, each to the nearest.
  void round(bool second, const float* values);

 private:
  StateType type_;
  std::uint64_t count_;
  std::vector<std::byte> codes_;
  std::vector<std::uint8_t> exponents_;
};

}  // namespace mtadam
