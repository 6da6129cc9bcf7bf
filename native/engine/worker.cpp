#include "engine/worker.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace mtadam {

struct Worker::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;  // the first one is running
  bool stopped = false;
  std::thread::id thread;

  // wait() without a time would need a newer libstdc++ than the addon may.
  template <class Condition>
  void wait_until(std::unique_lock<std::mutex>& lock, const Condition& condition) {
    while (!condition()) changed.wait_for(lock, std::chrono::hours(1));
  }

  void run() {
    std::unique_lock<std::mutex> lock(mutex);
    thread = std::this_thread::get_id();
    while (true) {
      wait_until(lock, [&] { return stopped || !jobs.empty(); });
      if (jobs.empty()) return;
      std::function<void()> job = std::move(jobs.front());
      lock.unlock();
      job();
      job = nullptr;  // what it owns may be the last owner of the worker, whose destructor takes the lock
      lock.lock();
      jobs.pop_front();
      changed.notify_all();
    }
  }
};

// Detached: at the end of the process, a job may be waiting for ranks that never answer.
Worker::Worker() : state_(std::make_shared<State>()) {
  std::thread([state = state_] { state->run(); }).detach();
}

Worker::~Worker() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->stopped = true;
  state_->changed.notify_all();
}

void Worker::post(std::function<void()> job) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->jobs.push_back(std::move(job));
  state_->changed.notify_all();
}

void Worker::wait() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  if (state_->thread == std::this_thread::get_id()) return;
  state_->wait_until(lock, [&] { return state_->jobs.empty(); });
}

}  // namespace mtadam
