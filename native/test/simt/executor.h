#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>

#include "test/simt/error.h"
#include "test/simt/vector_types.h"

// The executor runs a grid of CUDA threads on the calling thread, each as a fiber. A few blocks are resident at a time;
// the others start when these end. A kernel that breaks a rule of the machine ends in an Error.

namespace simt {

enum class Order {
  kAscending,   ///< blocks and threads in the order of their indices
  kDescending,  ///< in descending order
  kRandom,      ///< blocks and runnable threads drawn at random, with switches at atomics and fences too
};

struct Config {
  Order order = Order::kRandom;
  std::uint64_t seed = 1;
  /// Races between blocks need several of them at once.
  unsigned resident_blocks = 4;
};

/// For every launch that begins later, on any thread. With kRandom each launch draws differently, and the same number
/// of launches after a call draws the same.
void configure(const Config& config);
Config config();

/// Since the start or the last reset, of all threads together.
struct Stats {
  std::uint64_t launches = 0;
  std::uint64_t threads = 0;
  std::uint64_t switches = 0;
  std::uint64_t barriers = 0;
  std::uint64_t warp_operations = 0;
};
Stats stats();
void reset_stats();

/// A kernel's argument in memory.
struct Argument {
  const void* data;
  std::size_t bytes;
};

/// A kernel with its arguments, which the executor calls once per thread.
struct BoundKernel {
  void (*call)(const void* closure);
  const void* closure;
  std::size_t closure_bytes;
  const void* function;
  std::span<const Argument> arguments;
};

/// Whether a device accepts such a launch.
bool fits(dim3 grid, dim3 block);

/// Returns when all threads have ended. Throws Error.
void run(dim3 grid, dim3 block, const BoundKernel& kernel);

/// Another machine, which runs launches instead of the executor. Each launch has a seed of its own.
using Runner = void (*)(dim3 grid, dim3 block, const BoundKernel& kernel, const Config& config, std::uint64_t seed);

/// For every launch that begins later; null, the default, is the executor itself.
void run_kernels_by(Runner runner);

template <class... Parameters>
struct KernelCall {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;

  static void call(const void* closure) {
    const auto& self = *static_cast<const KernelCall*>(closure);
    std::apply(self.kernel, self.arguments);
  }

  void run(dim3 grid, dim3 block) const {
    const auto places = std::apply(
        [](const Parameters&... each) {
          return std::array<Argument, sizeof...(Parameters)>{Argument{&each, sizeof each}...};
        },
        arguments);
    simt::run(grid, block, BoundKernel{call, this, sizeof *this, reinterpret_cast<const void*>(kernel), places});
  }
};

/// Runs a kernel at once, without streams or errors codes; the arguments are converted as in a launch.
template <class... Parameters, class... Arguments>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments&&... arguments) {
  KernelCall<Parameters...>{kernel, {std::forward<Arguments>(arguments)...}}.run(grid, block);
}

}  // namespace simt
