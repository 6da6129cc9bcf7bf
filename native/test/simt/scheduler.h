#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "test/simt/block.h"
#include "test/simt/executor.h"

namespace simt {

/// Fibers that can run, in the order in which they became able to. Its memory is allocated before a launch begins.
class ReadyQueue {
 public:
  void reserve(std::size_t fibers) {
    std::size_t capacity = 64;
    while (capacity < fibers) capacity *= 2;
    ring_.assign(capacity, nullptr);
  }
  std::size_t size() const { return tail_ - head_; }
  void push(Fiber* fiber) { ring_[tail_++ & (ring_.size() - 1)] = fiber; }
  Fiber* pop() { return at(head_++); }
  void bring_forward(std::size_t position) { std::swap(at(head_), at(head_ + position)); }

 private:
  Fiber*& at(std::size_t index) { return ring_[index & (ring_.size() - 1)]; }

  std::vector<Fiber*> ring_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

/// One launch on one host thread. The scheduler runs on the host thread's own stack, to which fibers that wait return.
class Scheduler final : public BlockHost {
 public:
  Scheduler(dim3 grid, dim3 block, const BoundKernel& kernel, const Config& config, std::uint64_t seed);
  ~Scheduler() override;

  /// The launch that runs on this host thread, or null.
  static Scheduler* active();
  static Fiber& self() { return *static_cast<Fiber*>(current_thread); }

  /// Throws Error.
  void run();
  const Stats& stats() const { return stats_; }
  const BoundKernel& kernel() const { return kernel_; }

  // ---- On fibers ----

  /// Lets the others run; the fiber is ready or waits for its block to make it so. Does not return after a failure.
  void wait();
  void give_way(Fiber& fiber);
  /// Lets others run at random, where the order is random.
  void preempt(Fiber& fiber);
  void note_spin() { ++spins_; }
  void note_progress() { ++changes_; }
  Stats& stats() { return stats_; }
  /// `code` is where the thread is, if that is better known than by its last barrier, warp operation or helper.
  [[noreturn]] void fail_here(Fault fault, const char* text, const void* code = nullptr);

  // ---- BlockHost, on fibers and off ----

  void make_ready(Fiber& fiber) override { ready_.push(&fiber); }
  void fail(Fault fault, const char* text, const Fiber* one, const Fiber* other) override;

 private:
  struct Failure {
    bool happened = false;
    Fault fault = Fault::kLaunch;
    char text[512] = {};
    const Fiber* one = nullptr;
    const Fiber* other = nullptr;
    const void* code = nullptr;
  };

  static void fiber_main();
  void run_thread();
  std::uint64_t random();
  void schedule();
  void order_blocks();
  void start_blocks();
  void start_block(std::size_t number);
  Fiber& choose();
  void resume(Fiber& fiber);
  void watch_for_livelock(const Fiber& fiber, bool idle);
  void finish(Fiber& fiber);
  void retire(Block& block);
  void report_deadlock();
  void abandon();
  Error error() const;

  const dim3 grid_;
  const dim3 block_;
  const BoundKernel kernel_;
  const Config config_;
  std::uint64_t random_state_;

  std::vector<std::size_t> block_order_;
  std::size_t next_block_ = 0;
  std::vector<std::unique_ptr<Block>> resident_;
  ReadyQueue ready_;
  Failure failure_;
  Stats stats_;

  std::uint64_t spins_ = 0;
  std::uint64_t changes_ = 0;
  std::uint64_t idle_turns_ = 0;

  // The host thread's own context, while a fiber runs.
  void* host_stack_pointer_ = nullptr;
  void* host_fake_stack_ = nullptr;
  const void* host_stack_bottom_ = nullptr;
  std::size_t host_stack_bytes_ = 0;
  void* host_tsan_fiber_ = nullptr;
  char launch_order_ = 0;  // addresses for the thread sanitizer
  char end_order_ = 0;
};

}  // namespace simt
