#include <algorithm>
#include <memory>
#include <numeric>

#include "test/ptx/machine.h"

namespace ptx {

namespace {

/// Blocks that have ended: their memory is used again, also by later launches.
std::vector<std::unique_ptr<Block>>& spare_blocks() {
  static thread_local std::vector<std::unique_ptr<Block>> blocks;
  return blocks;
}

std::unique_ptr<Block> take_block() {
  auto& spare = spare_blocks();
  if (spare.empty()) return std::make_unique<Block>();
  std::unique_ptr<Block> block = std::move(spare.back());
  spare.pop_back();
  return block;
}

/// The indices of all blocks, the next one last.
std::vector<unsigned> waiting_blocks(unsigned grid, simt::Order order, std::uint64_t& seed) {
  std::vector<unsigned> waiting(grid);
  std::iota(waiting.begin(), waiting.end(), 0u);
  if (order == simt::Order::kAscending) std::reverse(waiting.begin(), waiting.end());
  if (order == simt::Order::kRandom) {
    for (std::size_t k = waiting.size(); k > 1; --k) std::swap(waiting[k - 1], waiting[draw(seed) % k]);
  }
  return waiting;
}

}  // namespace

void run(const Launch& launch) {
  const bool at_random = launch.config.order == simt::Order::kRandom;
  std::uint64_t seed = launch.seed;
  std::vector<unsigned> waiting = waiting_blocks(launch.grid, launch.config.order, seed);
  std::vector<std::unique_ptr<Block>> resident;
  std::size_t next = 0;
  while (!waiting.empty() || !resident.empty()) {
    while (!waiting.empty() && resident.size() < launch.config.resident_blocks) {
      resident.push_back(take_block());
      resident.back()->begin(launch, waiting.back(), draw(seed));
      waiting.pop_back();
    }
    next = at_random ? draw(seed) % resident.size() : (next + 1) % resident.size();
    if (resident[next]->turn()) continue;
    spare_blocks().push_back(std::move(resident[next]));
    resident.erase(resident.begin() + static_cast<std::ptrdiff_t>(next));
    if (next > 0) --next;
  }
}

}  // namespace ptx
