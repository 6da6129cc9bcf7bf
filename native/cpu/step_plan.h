#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "math/tables.h"

namespace mtadam {

/// Consecutive layers that one thread processes from beginning to end.
struct WholeLayers {
  std::uint32_t first;
  std::uint32_t count;
};

/// A layer cut into blocks, each for any thread.
struct CutLayer {
  std::uint32_t layer;
  std::uint64_t block;   // slots
  std::uint64_t blocks;  // the last may be shorter
};

/// How the threads divide the work of a call that reads gradients. Steps 1 to 4 need all of a layer's norms before its
/// first element moves. So one thread processes the whole layer, or the layer is cut into blocks and read in two
/// stages.
struct StepPlan {
  std::vector<CutLayer> cut;
  std::vector<WholeLayers> whole;
};

/// Bytes of gradients that one thread reads twice: few enough to be in its caches the second time, and enough for long
/// runs of each gradient. With 256 KiB, a step of ten terms and 3,000 tensors is up to a fifth slower.
constexpr std::uint64_t kOwnBytes = std::uint64_t{768} << 10;

/// The same in slots, at least one, when each slot has `terms` gradients.
constexpr std::uint64_t own_slots(std::uint32_t terms) {
  return std::max<std::uint64_t>(1, kOwnBytes / (kChunkElements * sizeof(float) * terms));
}

/// `terms`: how many have gradients in the call.
StepPlan plan_step(const Tables& tables, std::uint32_t terms, unsigned threads);

}  // namespace mtadam
