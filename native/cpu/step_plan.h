#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "math/tables.h"

namespace mtadam {

/// Consecutive layers, one thread's from beginning to end.
struct WholeLayers {
  std::uint32_t first;
  std::uint32_t count;
};

/// A layer cut in blocks, of which any thread may take any.
struct CutLayer {
  std::uint32_t layer;
  std::uint64_t block;   // slots
  std::uint64_t blocks;  // the last may be shorter
};

/// How the work of a call that reads gradients is shared out. Steps 1 to 4 need all of a layer's norms before its first
/// element moves, so a layer is either one thread's from beginning to end, or cut in blocks and passed over twice.
struct StepPlan {
  std::vector<CutLayer> cut;
  std::vector<WholeLayers> whole;
};

/// Gradients that are still in a thread's caches when it reads them again, and enough of them that a thread goes a long
/// way through each: with 256 KiB a step of ten terms of 3,000 tensors is up to a fifth slower.
constexpr std::uint64_t kOwnBytes = std::uint64_t{768} << 10;

/// The same in slots, for `terms` gradients, at least one.
constexpr std::uint64_t own_slots(std::uint32_t terms) {
  return std::max<std::uint64_t>(1, kOwnBytes / (kChunkElements * sizeof(float) * terms));
}

/// `terms`: how many bring gradients.
StepPlan plan_step(const Tables& tables, std::uint32_t terms, unsigned threads);

}  // namespace mtadam
