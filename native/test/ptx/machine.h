#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "test/ptx/instruction.h"
#include "test/simt/error.h"
#include "test/simt/executor.h"

// The state that instructions act on: blocks of threads, each with a frame of registers and a position in the code.

namespace ptx {

class Block;

enum class State : std::uint8_t {
  kRuns,
  kGivesWay,   ///< runs again after the others
  kAtBarrier,  ///< meets all threads of the block
  kAtWarp,     ///< meets the lanes of its mask
  kEnded,
};

/// Computes the results of a warp operation once all lanes of the mask have arrived.
using Answer = void (*)(std::span<Thread* const> lanes, Thread& self);

struct Thread {
  Block* block = nullptr;
  std::byte* frame = nullptr;
  const std::byte* constants_end = nullptr;
  std::uint32_t pc = 0;
  std::uint32_t index = 0;
  State state = State::kRuns;
  // Its operands at a meeting.
  bool reduces = false;  ///< the barrier answers whether any thread's predicate holds
  bool predicate = false;
  Answer answer = nullptr;
  std::uint32_t mask = 0;
  std::array<std::uint32_t, 3> given = {};

  const std::byte* at(Operand operand) const { return (operand.place < 0 ? constants_end : frame) + operand.place; }
  template <class T>
  T read(Operand operand) const {
    if constexpr (std::is_same_v<T, bool>) {
      return *at(operand) != std::byte{0};
    } else {
      T value;
      std::memcpy(&value, at(operand), sizeof value);
      return value;
    }
  }
  template <class T>
  void write(Operand operand, T value) {
    std::memcpy(frame + operand.place, &value, sizeof value);
  }

  /// The instruction that the thread is at, or waits in.
  const Instruction& instruction() const;
  [[noreturn]] void fail(simt::Fault fault, const std::string& why) const;
  [[noreturn]] void fail(simt::Fault fault, const char* what, std::uint64_t address, std::size_t bytes,
                         const char* why) const;
};

inline constexpr unsigned kWarpLanes = 32;

struct Launch {
  const Kernel& kernel;
  std::span<const std::byte> parameters;
  unsigned grid;
  unsigned threads;  ///< of a block
  simt::Config config;
  std::uint64_t seed;
};

/// A byte of shared memory: the accesses to it since the block's last barrier.
struct SharedByte {
  bool exists = false;
  bool written = false;  ///< ever
  std::uint32_t round = 0;
  std::uint32_t writers = 0;  ///< warps, a bit each
  std::uint32_t readers = 0;
};

/// A block of threads; later blocks reuse its memory.
class Block {
 public:
  void begin(const Launch& launch, unsigned index, std::uint64_t seed);

  /// Runs each thread until it meets others, gives way or ends. False when all have ended.
  bool turn();

  const Kernel& kernel() const { return *kernel_; }
  unsigned index() const { return index_; }
  /// At random, where threads are switched at random.
  bool switches();

  /// The host address of the bytes; the thread fails if a kernel must not access them.
  std::byte* shared(const Thread& thread, std::uint64_t address, std::size_t bytes, bool read, bool write);
  const std::byte* parameter(const Thread& thread, std::uint64_t address, std::size_t bytes) const;
  static std::byte* global(const Thread& thread, std::uint64_t address, std::size_t bytes, bool read, bool write);

 private:
  void run(Thread& thread);
  bool release_barrier();
  bool release_warps();
  static bool meet(std::span<Thread> lanes, Thread& first);
  [[noreturn]] void fail_deadlock() const;

  const Kernel* kernel_ = nullptr;
  std::span<const std::byte> parameters_;
  unsigned index_ = 0;
  simt::Order order_ = simt::Order::kRandom;
  std::uint64_t random_ = 0;
  unsigned left_ = 0;
  std::vector<Thread> threads_;
  std::vector<std::uint32_t> turns_;  ///< the order in which threads run
  std::vector<std::uint64_t> frames_;
  std::vector<std::uint64_t> shared_;
  std::vector<SharedByte> shared_bytes_;
  std::uint32_t round_ = 0;  ///< barriers so far
};

/// Runs all blocks, some of them at a time. Throws simt::Error.
void run(const Launch& launch);

/// The next pseudo-random number (splitmix64).
inline std::uint64_t draw(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace ptx
