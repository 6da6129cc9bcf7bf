#include "cpu/step_plan.h"

#include <algorithm>

#include "cpu/blocks.h"

namespace mtadam {

StepPlan plan_step(const Tables& tables, std::uint32_t terms, unsigned threads) {
  StepPlan plan;
  const std::uint64_t own = std::max<std::uint64_t>(1, kOwnBytes / (kChunkElements * sizeof(float) * terms));
  const std::uint64_t together = std::min(own, block_of(tables.chunk_count, threads));
  std::uint32_t begin = 0;  // of the layers that wait to become a task
  std::uint64_t slots = 0;  // theirs
  const auto close = [&](std::uint32_t end) {
    if (end > begin) plan.tasks.push_back({StepTask::Part::kLayers, begin, end - begin, 0, 0, 0});
    slots = 0;
  };
  const auto cut = [&](std::uint32_t layer, std::uint64_t count) {
    const std::uint64_t block = block_of(count, threads);
    const auto gate = static_cast<std::uint32_t>(plan.norms.size());
    const std::uint64_t blocks = (count + block - 1) / block;
    plan.norms.push_back(static_cast<std::uint32_t>(blocks));
    const auto add = [&](StepTask::Part part, std::uint64_t k) {
      plan.tasks.push_back({part, layer, 1, gate, k * block, std::min(count, (k + 1) * block)});
    };
    for (std::uint64_t k = 0; k < blocks; ++k) add(StepTask::Part::kNorms, k);
    // Backwards: what was read last is nearest.
    for (std::uint64_t k = blocks; k > 0; --k) add(StepTask::Part::kRest, k - 1);
  };
  for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) {
    const std::uint64_t count = tables.layers[layer].slots;
    // One thread's, unless the others would have too little to do meanwhile.
    if (count <= own && count * threads <= tables.chunk_count) {
      if (slots + count > together) {
        close(layer);
        begin = layer;
      }
      slots += count;
      continue;
    }
    close(layer);
    begin = layer + 1;
    cut(layer, count);
  }
  close(tables.layer_count);
  return plan;
}

}  // namespace mtadam
