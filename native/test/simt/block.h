#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "test/simt/fiber.h"
#include "test/simt/machine.h"
#include "test/simt/shared_memory.h"

namespace simt {

constexpr unsigned kWarpLanes = 32;

enum class WarpOperation { kShuffle, kBallot, kSync };

/// The scheduler, as blocks use it.
class BlockHost {
 public:
  virtual ~BlockHost() = default;
  /// Makes the fiber ready to run.
  virtual void make_ready(Fiber& fiber) = 0;
  /// Ends the launch with this error, unless it has one.
  virtual void fail(Fault fault, const char* text, const Fiber* one, const Fiber* other) = 0;
};

/// A resident block: its threads, its shared memory, and the rules of barriers and warp operations. Everything except
/// the constructor also runs on fibers, so it does not allocate.
class Block {
 public:
  Block(BlockHost& host, uint3 id, dim3 block_size, dim3 grid_size);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::vector<Fiber>& threads() { return threads_; }
  SharedMemory& shared() { return shared_; }
  unsigned live() const { return live_; }

  /// The fiber arrives; when it is the last, all become ready with their results.
  void arrive_at_barrier(Fiber& fiber, machine::Barrier kind, bool predicate);
  /// The same for the lanes of the fiber's mask, which it has set together with the operands.
  void arrive_at_warp(Fiber& fiber, WarpOperation operation);
  void leave(Fiber& fiber);

  /// The thread sanitizer's address for the fiber's next barrier. There are two in turn, so that the threads of
  /// successive barriers are told apart.
  void* barrier_order(const Fiber& fiber) { return &barrier_order_[fiber.barrier_parity]; }
  Fiber& lane(const Fiber& of_warp, unsigned lane) { return threads_[of_warp.warp * kWarpLanes + lane]; }

 private:
  /// Which lanes of a warp do what, one bit each.
  struct Warp {
    unsigned present = 0;
    unsigned at_operation = 0;
    unsigned at_barrier = 0;
    unsigned exited = 0;
  };

  Warp& warp(const Fiber& fiber) { return warps_[fiber.warp]; }
  void complete_barrier();
  void complete_warp(Fiber& fiber, WarpOperation operation);
  /// Reports a lane that does not come to the warp operation at which others wait for it.
  void fail_waiting(const Fiber& fiber, const char* text);

  BlockHost& host_;
  std::vector<Fiber> threads_;
  std::vector<Warp> warps_;
  SharedMemory shared_;
  unsigned live_;
  unsigned at_barrier_ = 0;
  char barrier_order_[2] = {};
};

}  // namespace simt
