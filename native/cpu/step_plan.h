#pragma once

#include <cstdint>
#include <vector>

#include "kernels/layout.h"

namespace mtadam {

/// A piece of a call that reads gradients, for one thread. Steps 1 to 4 need all of a layer's norms before its first
/// element moves, so a layer is either one thread's from beginning to end, or it is cut in blocks, twice.
struct StepTask {
  enum class Part : std::uint8_t {
    kLayers,  // all of the layers `layer` .. `layer` + `layers`, one after another
    kNorms,   // the squares of slots first .. last of `layer`
    kRest,    // what follows from its norms, for the same; waits for all of its kNorms
  };
  Part part;
  std::uint32_t layer;
  std::uint32_t layers;  // of kLayers
  std::uint32_t gate;    // of the others: numbers the layers that are cut
  std::uint64_t first, last;
};

/// A call cut into tasks, in the order in which they must be taken.
struct StepPlan {
  std::vector<StepTask> tasks;
  std::vector<std::uint32_t> norms;  // kNorms tasks per gate
};

/// The gradients of a layer that is one thread's: they are still in its second-level cache when they are read again.
constexpr std::uint64_t kOwnBytes = std::uint64_t{256} << 10;

/// `terms`: how many bring gradients.
StepPlan plan_step(const Tables& tables, std::uint32_t terms, unsigned threads);

}  // namespace mtadam
