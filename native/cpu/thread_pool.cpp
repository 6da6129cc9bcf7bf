#include "cpu/thread_pool.h"

#include <algorithm>
#include <system_error>

#include "cpu/backoff.h"
#include "engine/float_environment.h"

namespace mtadam {

ThreadPool::ThreadPool(unsigned threads) : threads_(std::max(threads, 1u)) {}

ThreadPool::~ThreadPool() {
  ending_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::start() {
  started_ = true;
  workers_.reserve(threads_ - 1);
  try {
    while (workers_.size() + 1 < threads_) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // The system has no more threads for us: go on with those that started, or with the caller alone.
  }
}

void ThreadPool::wake(std::size_t count) {
  generation_.fetch_add(1);
  // Who is awake sees the new generation by itself.
  const std::size_t sleeping = asleep_.load();
  for (std::size_t k = 0; k < std::min(count, sleeping); ++k) generation_.notify_one();
}

void ThreadPool::run(std::size_t count, Function function, const void* context) {
  const DefaultFloatEnvironment environment;
  if (count <= 1 || threads_ == 1) {
    for (std::size_t k = 0; k < count; ++k) function(context, k);
    return;
  }
  const std::lock_guard<std::mutex> lock(one_job_at_a_time_);
  if (!started_) start();
  function_ = function;
  context_ = context;
  count_ = count;
  next_.store(0);
  open_.store(true);
  wake(count - 1);
  take_tasks();
  // All tasks are taken. A worker counts itself in before it looks at `open_`, so either it is seen here or it
  // sees that the job is over.
  open_.store(false);
  wait_until([this] { return inside_.load() == 0; });
}

void ThreadPool::take_tasks() {
  for (std::size_t k = next_.fetch_add(1); k < count_; k = next_.fetch_add(1)) function_(context_, k);
}

void ThreadPool::take_part() {
  inside_.fetch_add(1);
  if (open_.load()) take_tasks();
  inside_.fetch_sub(1);
}

void ThreadPool::work() {
  const DefaultFloatEnvironment environment;
  std::uint32_t seen = generation_.load();
  take_part();  // the job that started this thread
  while (!ending_.load()) {
    // A step may be two jobs in a row with a few microseconds between them: to stay awake that long saves the second
    // wake-up. Longer would take a core from whoever computes the gradients.
    for (int spin = 0; spin < kSpins && generation_.load() == seen; ++spin) relax();
    if (generation_.load() == seen) {
      asleep_.fetch_add(1);
      generation_.wait(seen);
      asleep_.fetch_sub(1);
    }
    seen = generation_.load();
    take_part();
  }
}

}  // namespace mtadam
