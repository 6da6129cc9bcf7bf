#pragma once

#include <cstdint>

#include "math/tables.h"

namespace mtadam {

/// The canonical sum of a layer's chunks or of a unit's tensors, by one thread of the host: value k goes to lane
/// k mod 128, in order, then the halving tree adds up the lanes.
class LaneSum {
 public:
  void add(std::uint64_t k, double value) { lanes_[k % kLayerLanes] += value; }
  /// To be called once, after the last value.
  double total() {
    for (std::uint32_t half = kLayerLanes / 2; half > 0; half /= 2) {
      for (std::uint32_t lane = 0; lane < half; ++lane) lanes_[lane] += lanes_[lane + half];
    }
    return lanes_[0];
  }

 private:
  double lanes_[kLayerLanes] = {};
};

}  // namespace mtadam
