#pragma once

#include <algorithm>
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

/// The canonical sum of squares of one chunk, count <= kChunkElements, as the devices compute it: lane k mod 32 adds up
/// its squares of each segment, which float64 holds exactly, and then these sums.
inline double chunk_sum_of_squares(const float* g, std::uint32_t count) {
  double lanes[kChunkLanes] = {};
  for (std::uint32_t first = 0; first < count; first += kSegmentElements) {
    double sums[kChunkLanes] = {};
    const std::uint32_t end = std::min(count, first + kSegmentElements);
    for (std::uint32_t k = first; k < end; ++k) sums[k % kChunkLanes] += double{g[k]} * double{g[k]};
    for (std::uint32_t lane = 0; lane < kChunkLanes; ++lane) lanes[lane] += sums[lane];
  }
  for (std::uint32_t half = kChunkLanes / 2; half > 0; half /= 2) {
    for (std::uint32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace mtadam
