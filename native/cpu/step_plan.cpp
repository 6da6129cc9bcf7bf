#include "cpu/step_plan.h"

#include <algorithm>

#include "cpu/blocks.h"

namespace mtadam {

StepPlan plan_step(const Tables& tables, std::uint32_t terms, unsigned threads) {
  StepPlan plan;
  const std::uint64_t own = own_slots(terms);
  const std::uint64_t block = block_of(tables.chunk_count, threads);
  const std::uint64_t together = std::min(own, block);
  std::uint32_t begin = 0;  // the first of the layers that will be the next task
  std::uint64_t slots = 0;  // of these layers
  const auto close = [&](std::uint32_t end) {
    if (end > begin) plan.whole.push_back({begin, end - begin});
    slots = 0;
  };
  for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) {
    const std::uint64_t count = tables.layers[layer].slots;
    // One thread takes a layer that is no larger than a block, or that fits in its caches while the other threads have
    // enough to do. Then no thread waits for another.
    if (count <= block || (count <= own && (threads == 1 || 2 * count * threads <= tables.chunk_count))) {
      if (slots + count > together) {
        close(layer);
        begin = layer;
      }
      slots += count;
      continue;
    }
    close(layer);
    begin = layer + 1;
    const std::uint64_t part = block_of(count, threads);
    plan.cut.push_back({layer, part, (count + part - 1) / part});
  }
  close(tables.layer_count);
  return plan;
}

}  // namespace mtadam
