#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace mtadam {

/// A fixed set of threads that sleep between jobs. A job is a number of tasks; whoever is free takes the next, in
/// ascending order, and carries it out to its end: so a task may wait for those before it, and never for one after. The
/// caller works too and never waits for a thread that has not yet woken, so a pool with more threads than cores costs
/// nothing.
class ThreadPool {
 public:
  /// `threads` counts the caller; at least 1. The others start with the first job that can use them.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const { return threads_; }

  /// Runs task(k) for every k in [0, count); returns when all have run. Tasks must not throw. Every task runs under
  /// the default floating-point environment.
  template <class Task>
  void run(std::size_t count, const Task& task) {
    static_assert(std::is_nothrow_invocable_v<const Task&, std::size_t>);
    run(
        count, [](const void* context, std::size_t k) noexcept { (*static_cast<const Task*>(context))(k); }, &task);
  }

 private:
  using Function = void (*)(const void* context, std::size_t k) noexcept;

  void run(std::size_t count, Function function, const void* context);
  void start();
  void wake(std::size_t count);
  void work();
  void take_part();
  void take_tasks();

  const unsigned threads_;
  std::mutex one_job_at_a_time_;
  std::vector<std::thread> workers_;
  bool started_ = false;

  // The job. Written only while `open_` is false and `inside_` is 0.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  std::size_t count_ = 0;

  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::atomic<std::uint32_t> inside_{0};  // workers that look at the job
  std::atomic<bool> open_{false};
  std::atomic<bool> ending_{false};
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // workers sleep on this
  std::atomic<std::uint32_t> asleep_{0};
};

}  // namespace mtadam
