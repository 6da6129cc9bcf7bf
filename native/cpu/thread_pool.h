#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

namespace mtadam {

/// Tasks that are independent of one another.
struct Stage {
  std::size_t tasks;
  bool backwards = false;  // each thread takes its share from the end
};

/// A fixed set of threads that sleep between jobs. A job is a sequence of stages, each a number of tasks. A thread's
/// share of a stage is the same in every job, so that it finds its data in its caches. A thread that has finished its
/// share steals from the others, and only then goes on to the next stage. So a task may wait for tasks of earlier
/// stages, which are done or running. The caller works too and never waits for a thread that is asleep, so more threads
/// than cores cost little.
class ThreadPool {
 public:
  /// `threads` includes the caller; at least 1. The others start with the first job that can use them. Throws
  /// bad_alloc; jobs of up to Counters::kCount stages do not, since they find all the memory that they need.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned threads() const { return threads_; }

  /// Runs task(stage, k) for every stage and every k in [0, its tasks); returns when all have run. Tasks must not
  /// throw. Every task runs under the default floating-point environment.
  template <class Task>
  void run(std::span<const Stage> stages, const Task& task) {
    static_assert(std::is_nothrow_invocable_v<const Task&, std::size_t, std::size_t>);
    run(
        stages,
        [](const void* context, std::size_t stage, std::size_t k) noexcept {
          (*static_cast<const Task*>(context))(stage, k);
        },
        &task);
  }

  /// One stage: runs task(k) for every k in [0, count).
  template <class Task>
  void run(std::size_t count, const Task& task) {
    static_assert(std::is_nothrow_invocable_v<const Task&, std::size_t>);
    const Stage stage{count};
    run({&stage, 1}, [&task](std::size_t, std::size_t k) noexcept { task(k); });
  }

 private:
  struct alignas(64) Counters {
    static constexpr std::size_t kCount = 8;
    std::atomic<std::size_t> of[kCount];
  };
  using Function = void (*)(const void* context, std::size_t stage, std::size_t k) noexcept;

  void run(std::span<const Stage> stages, Function function, const void* context);
  void start();
  void prepare(std::size_t stages);
  void wake(std::size_t count);
  void work(unsigned thread);
  void take_part(unsigned thread);
  void take_tasks(unsigned thread);
  void take_share(unsigned thread, std::size_t stage);

  const unsigned threads_;
  std::mutex one_job_at_a_time_;
  std::vector<std::thread> workers_;
  bool started_ = false;

  // The job. Written only while `open_` is false and `inside_` is 0.
  Function function_ = nullptr;
  const void* context_ = nullptr;
  std::span<const Stage> stages_;
  /// How many tasks are taken of each thread's share of each stage. Each thread has cache lines of its own, so that
  /// threads do not contend while they work on their own shares.
  std::vector<Counters> taken_;
  std::size_t lines_ = 0;  // per thread

  alignas(64) std::atomic<std::uint32_t> inside_{0};  // workers that may read the job
  std::atomic<bool> open_{false};
  std::atomic<bool> ending_{false};
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // workers sleep on this
  std::atomic<std::uint32_t> asleep_{0};
};

}  // namespace mtadam
