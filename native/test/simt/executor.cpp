#include "test/simt/executor.h"

#include <mutex>

#include "test/simt/sanitizers.h"
#include "test/simt/scheduler.h"

namespace simt {

namespace {

std::mutex mutex;  // guards the following
Config configuration;
std::uint64_t launches_configured = 0;
Stats totals;
Runner other_runner = nullptr;

void add(const Stats& launch) {
  const std::lock_guard lock(mutex);
  totals.launches += 1;
  totals.threads += launch.threads;
  totals.switches += launch.switches;
  totals.barriers += launch.barriers;
  totals.warp_operations += launch.warp_operations;
}

}  // namespace

void configure(const Config& config) {
  const std::lock_guard lock(mutex);
  configuration = config;
  if (configuration.resident_blocks == 0) configuration.resident_blocks = 1;
  launches_configured = 0;
}

Config config() {
  const std::lock_guard lock(mutex);
  return configuration;
}

Stats stats() {
  const std::lock_guard lock(mutex);
  return totals;
}

void reset_stats() {
  const std::lock_guard lock(mutex);
  totals = Stats{};
}

void run_kernels_by(Runner runner) {
  const std::lock_guard lock(mutex);
  other_runner = runner;
}

bool fits(dim3 grid, dim3 block) {
  constexpr unsigned kMaxGridX = 0x7fffffff;
  constexpr unsigned kMaxGridYZ = 65535;
  constexpr unsigned kMaxBlockThreads = 1024;
  constexpr unsigned kMaxBlockZ = 64;
  const bool grid_fits =
      grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= kMaxGridX && grid.y <= kMaxGridYZ && grid.z <= kMaxGridYZ;
  const bool block_fits = block.x > 0 && block.y > 0 && block.z > 0 && block.x <= kMaxBlockThreads &&
                          block.y <= kMaxBlockThreads && block.z <= kMaxBlockZ &&
                          std::uint64_t{block.x} * block.y * block.z <= kMaxBlockThreads;
  return grid_fits && block_fits;
}

void run(dim3 grid, dim3 block, const BoundKernel& kernel) {
  if (!fits(grid, block)) throw Error(Fault::kLaunch, "no device takes such a grid or block");
  Config config;
  std::uint64_t seed = 0;
  Runner runner = nullptr;
  {
    const std::lock_guard lock(mutex);
    runner = other_runner;
    config = configuration;
    seed = config.seed + ++launches_configured * 0x632be59bd9b4e019u;
  }
  if (runner != nullptr) return runner(grid, block, kernel, config, seed);
  Scheduler scheduler(grid, block, kernel, config, seed);
  scheduler.run();
  add(scheduler.stats());
}

}  // namespace simt
