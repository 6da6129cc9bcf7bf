#include "cpu/thread_pool.h"

#include <algorithm>
#include <exception>

#include "cpu/backoff.h"
#include "engine/float_environment.h"

namespace mtadam {

ThreadPool::ThreadPool(unsigned threads) : threads_(std::max(threads, 1u)), taken_(threads_) {
  workers_.reserve(threads_ - 1);
}

ThreadPool::~ThreadPool() {
  ending_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::start() {
  started_ = true;
  try {
    while (workers_.size() + 1 < threads_) {
      workers_.emplace_back([this, thread = static_cast<unsigned>(workers_.size() + 1)] { work(thread); });
    }
  } catch (const std::exception&) {
    // The system has no more threads or memory for us: go on with those that started, or with the caller alone.
  }
}

void ThreadPool::prepare(std::size_t stages) {
  if (!started_) start();
  lines_ = (stages + Counters::kCount - 1) / Counters::kCount;
  if (taken_.size() < lines_ * threads_) taken_ = std::vector<Counters>(lines_ * threads_);
}

void ThreadPool::wake(std::size_t count) {
  generation_.fetch_add(1);
  // A thread that is awake sees the new generation by itself.
  const std::size_t sleeping = asleep_.load();
  for (std::size_t k = 0; k < std::min(count, sleeping); ++k) generation_.notify_one();
}

void ThreadPool::run(std::span<const Stage> stages, Function function, const void* context) {
  const DefaultFloatEnvironment environment;
  std::size_t all = 0;  // of all stages, which overlap
  for (const Stage& stage : stages) all += stage.tasks;
  if (all <= 1 || threads_ == 1) {
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
      const std::size_t count = stages[stage].tasks;
      for (std::size_t k = 0; k < count; ++k) function(context, stage, stages[stage].backwards ? count - 1 - k : k);
    }
    return;
  }
  const std::lock_guard<std::mutex> lock(one_job_at_a_time_);
  prepare(stages.size());
  function_ = function;
  context_ = context;
  stages_ = stages;
  for (std::size_t k = 0; k < lines_ * threads_; ++k) {
    for (std::atomic<std::size_t>& taken : taken_[k].of) taken.store(0, std::memory_order_relaxed);
  }
  open_.store(true);
  wake(all - 1);
  take_tasks(0);
  // All tasks are taken. A worker increments `inside_` before it reads `open_`, so either it is counted here or it sees
  // that the job is over.
  open_.store(false);
  wait_until([this] { return inside_.load() == 0; });
}

void ThreadPool::take_tasks(unsigned thread) {
  // Leaves once the job is over: the caller is waiting for this thread.
  for (std::size_t stage = 0; stage < stages_.size() && open_.load(); ++stage) {
    for (unsigned k = 0; k < threads_; ++k) take_share((thread + k) % threads_, stage);
  }
}

/// Runs what is left of a thread's share, on any thread.
void ThreadPool::take_share(unsigned thread, std::size_t stage) {
  const Stage& all = stages_[stage];
  const std::size_t begin = all.tasks * thread / threads_;
  const std::size_t count = all.tasks * (thread + 1) / threads_ - begin;
  Counters& line = taken_[thread * lines_ + stage / Counters::kCount];
  std::atomic<std::size_t>& taken = line.of[stage % Counters::kCount];
  // Reads first: most shares are empty by then, and a read does not take the cache line from its owner.
  while (taken.load() < count) {
    const std::size_t k = taken.fetch_add(1);
    if (k < count) function_(context_, stage, begin + (all.backwards ? count - 1 - k : k));
  }
}

void ThreadPool::take_part(unsigned thread) {
  inside_.fetch_add(1);
  if (open_.load()) take_tasks(thread);
  inside_.fetch_sub(1);
}

void ThreadPool::work(unsigned thread) {
  const DefaultFloatEnvironment environment;
  std::uint32_t seen = generation_.load();
  take_part(thread);  // the job that started this thread
  while (!ending_.load()) {
    // A step may be two jobs a few microseconds apart: spinning that long saves the second wake-up. Spinning longer
    // would take a core from the computation of the gradients.
    for (int spin = 0; spin < kSpins && generation_.load() == seen; ++spin) relax();
    if (generation_.load() == seen) {
      asleep_.fetch_add(1);
      generation_.wait(seen);
      asleep_.fetch_sub(1);
    }
    seen = generation_.load();
    take_part(thread);
  }
}

}  // namespace mtadam
