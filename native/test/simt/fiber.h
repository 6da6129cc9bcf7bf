#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "test/simt/error.h"
#include "test/simt/thread.h"

namespace simt {

constexpr std::size_t kStackBytes = 256 << 10;

/// A stack above a guard page, with its fibers of the thread sanitizer. They are costly to make, so later threads reuse
/// them.
class Stack {
 public:
  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  char* bottom() const { return bottom_; }
  char* top() const { return bottom_ + kStackBytes; }
  bool contains(const void* address) const { return address >= bottom_ && address < top(); }

  void* tsan_fiber() const { return tsan_fiber_; }
  /// Stands for the accesses that the thread's fences have ordered so far; made on first use.
  void* tsan_fence_fiber();

 private:
  char* bottom_;
  void* tsan_fiber_ = nullptr;
  void* tsan_fence_fiber_ = nullptr;
};

/// The stacks of one host thread that no fiber uses.
class StackPool {
 public:
  StackPool() = default;
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  /// Under the thread sanitizer at random: a thread on the stack of another is ordered after it. If threads with the
  /// same index always shared a stack, their races would never show.
  Stack* take(std::uint64_t random);
  void give_back(Stack* stack) { free_.push_back(stack); }

 private:
  std::vector<Stack*> free_;
};

/// Addresses of atomics that a thread has read since its last fence. Used on fibers, so it never allocates.
class ObservedAtomics {
 public:
  static constexpr unsigned kCapacity = 32;

  /// False if there is no room.
  bool add(void* address) {
    for (unsigned k = 0; k < count_; ++k) {
      if (addresses_[k] == address) return true;
    }
    if (count_ == kCapacity) return false;
    addresses_[count_++] = address;
    return true;
  }
  void clear() { count_ = 0; }
  unsigned size() const { return count_; }
  void* operator[](unsigned k) const { return addresses_[k]; }

 private:
  void* addresses_[kCapacity];
  unsigned count_ = 0;
};

class Block;

/// A CUDA thread.
struct Fiber : Thread {
  enum class State : std::uint8_t { kReady, kAtBarrier, kAtWarp, kExited };

  State state = State::kReady;
  Stack* stack = nullptr;
  void* stack_pointer = nullptr;
  void* asan_fake_stack = nullptr;
  Block* home = nullptr;
  Where where;  ///< of the last barrier, warp operation or helper

  // The thread's operands of the operation at which it waits, and then the result.
  int operation = 0;
  unsigned mask = 0;
  unsigned source_lane = 0;
  bool predicate = false;
  std::uint64_t value = 0;

  unsigned barrier_parity = 0;
  unsigned warp_parity = 0;
  bool has_fenced = false;
  ObservedAtomics observed;
  char warp_order[2];  ///< addresses for the thread sanitizer, one per parity
  char fence_order;
  char write_order;
};

}  // namespace simt
